// Rust: a generic function's two instances and a trait's method, whose names only demangling makes readable.
// Ends with its parent's pipe.
use std::hint::black_box;
use std::io::Read;

trait Shape {
    fn area(&self, rounds: u64) -> u64;
}

struct Square(u64);

impl Shape for Square {
    #[inline(never)]
    fn area(&self, rounds: u64) -> u64 {
        (0..rounds).fold(self.0, |sum, i| black_box(sum.wrapping_mul(31).wrapping_add(i)))
    }
}

#[inline(never)]
fn churn<T: Copy + Into<u64>>(seed: T, rounds: u64) -> u64 {
    (0..rounds).fold(seed.into(), |sum, i| black_box(sum.wrapping_mul(17) ^ i))
}

fn main() {
    println!("ready {}", std::process::id());
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    let square: Box<dyn Shape> = Box::new(Square(3));
    loop {
        black_box(square.area(1_000_000));
        black_box(churn(1u8, 1_000_000));
        black_box(churn(1u32, 1_000_000));
    }
}
