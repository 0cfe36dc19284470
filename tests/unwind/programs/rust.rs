// Rust's frames: closures, generics, trait objects, and panics that unwind through them.
use std::panic;

trait Shape {
    fn area(&self, n: u64) -> u64;
}

struct Square;
struct Panicking;

impl Shape for Square {
    #[inline(never)]
    fn area(&self, n: u64) -> u64 {
        n * n
    }
}

impl Shape for Panicking {
    #[inline(never)]
    fn area(&self, n: u64) -> u64 {
        let held = vec![n; 3];
        if held[1] == n {
            panic!("{}", n);
        }
        n
    }
}

#[inline(never)]
fn recursive(depth: u64, shape: &dyn Shape) -> u64 {
    let name = format!("{}", depth);
    if depth == 0 {
        shape.area(7)
    } else {
        recursive(depth - 1, shape) + name.len() as u64
    }
}

#[inline(never)]
fn sorts(n: u64) -> u64 {
    let mut values: Vec<u64> = (0..n).map(|i| (i * 7919) % 31).collect();
    values.sort_by_key(|v| std::cmp::Reverse(*v));
    values.iter().zip(1..).map(|(v, i)| v * i).sum()
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let mut sum = sorts(20);
    sum += recursive(3, &Square);
    sum += panic::catch_unwind(|| recursive(3, &Panicking)).unwrap_or(5);
    println!("{}", sum);
}
