// Rust: generics, traits, closures and much of the standard library, inlined into one another.
use std::collections::{BTreeMap, HashMap};
use std::fmt;

trait Shape {
    fn area(&self) -> f64;
    fn describe(&self) -> String {
        format!("shape of {:.2}", self.area())
    }
}

struct Square(f64);
struct Named<'a, T> {
    name: &'a str,
    inner: T,
}

impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

impl<'a, T: Shape> Shape for Named<'a, T> {
    fn area(&self) -> f64 {
        self.inner.area() + self.name.len() as f64
    }
}

impl<T> fmt::Display for Named<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name)
    }
}

mod inner {
    #[inline(never)]
    pub fn churn<T: Copy + Into<u64>, const N: usize>(seeds: [T; N]) -> u64 {
        seeds.iter().map(|s| (*s).into()).fold(17, |sum, i| sum.wrapping_mul(31) ^ i)
    }
}

fn words<'a>(text: &'a str, counts: &mut HashMap<&'a str, usize>) -> Vec<(&'a str, usize)> {
    for word in text.split_whitespace().filter(|w| !w.is_empty()) {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut list: Vec<_> = counts.iter().map(|(k, v)| (*k, *v)).collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    list
}

fn parsed(text: &str) -> Result<BTreeMap<String, i64>, std::num::ParseIntError> {
    let mut map = BTreeMap::new();
    for (i, part) in text.split(',').enumerate() {
        map.insert(format!("key{i}"), part.trim().parse::<i64>()?);
    }
    Ok(map)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = arguments.join(" ");
    let mut counts = HashMap::new();
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(2.0)), Box::new(Named { name: "x", inner: Square(1.0) })];
    for shape in &shapes {
        println!("{}", shape.describe());
    }
    println!("{:?} {}", words(&text, &mut counts), Named { name: &text, inner: () });
    println!("{:?}", parsed("1, 2, x"));
    println!("{}", inner::churn([1u32, 2, 3]) + inner::churn([1u8, 9]));
}
