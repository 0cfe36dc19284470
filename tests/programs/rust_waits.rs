// Rust's ways to wait: a mutex held for known times, a condition variable, a channel, a parked thread. Each wait and hold is noted as in
// wait_log.h, and told as the C programs tell theirs. Ends with its parent's pipe.
use std::io::BufRead;
use std::sync::{mpsc, Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

type Span = (&'static str, &'static str, &'static str, i32, u64, u64);

extern "C" {
    fn gettid() -> i32;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
}

fn log() -> &'static Mutex<Vec<Span>> {
    static LOG: OnceLock<Mutex<Vec<Span>>> = OnceLock::new();
    LOG.get_or_init(|| Mutex::new(Vec::with_capacity(1 << 20)))
}

fn now_ns() -> u64 {
    let mut time = [0i64; 2];
    unsafe { clock_gettime(1, &mut time) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

// What others note at the same time is another lock, held for a moment: its waits are tens of microseconds at most.
fn note(function: &'static str, what: &'static str, object: &'static str, from_ns: u64) {
    let span = (function, what, object, unsafe { gettid() }, from_ns, now_ns());
    log().lock().unwrap().push(span);
}

#[inline(never)]
fn take_rust_mutex(lock: &Mutex<u64>, hold_ms: u64) {
    let from_ns = now_ns();
    let mut guard = lock.lock().unwrap();
    note("take_rust_mutex", "lock", "rust_mutex", from_ns);
    let held_ns = now_ns();
    thread::sleep(Duration::from_millis(hold_ms));
    *guard += 1;
    note("take_rust_mutex", "hold", "rust_mutex", held_ns);
}

#[inline(never)]
fn in_rust_condvar(pair: &(Mutex<bool>, Condvar)) {
    let mut ready = pair.0.lock().unwrap();
    let from_ns = now_ns();
    while !*ready {
        ready = pair.1.wait(ready).unwrap();
    }
    note("in_rust_condvar", "lock", "", from_ns);
    *ready = false;
}

#[inline(never)]
fn in_rust_channel(receiver: &mpsc::Receiver<u64>) {
    let from_ns = now_ns();
    receiver.recv().unwrap();
    note("in_rust_channel", "lock", "", from_ns);
}

#[inline(never)]
fn in_rust_sleep() {
    let from_ns = now_ns();
    thread::sleep(Duration::from_millis(5));
    note("in_rust_sleep", "sleep", "", from_ns);
}

#[inline(never)]
fn in_rust_park() {
    let from_ns = now_ns();
    thread::park_timeout(Duration::from_millis(4));
    note("in_rust_park", "lock", "", from_ns);
}

fn repeat<F: FnMut() + Send + 'static>(mut function: F) {
    thread::spawn(move || loop {
        function();
    });
}

fn main() {
    let lock = Arc::new(Mutex::new(0u64));
    for _ in 0..3 {
        let lock = lock.clone();
        repeat(move || {
            take_rust_mutex(&lock, 3);
            thread::sleep(Duration::from_millis(1));
        });
    }
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    repeat(move || in_rust_condvar(&pair));
    repeat(move || {
        thread::sleep(Duration::from_millis(6));
        *other.0.lock().unwrap() = true;
        other.1.notify_one();
    });
    let (sender, receiver) = mpsc::channel();
    repeat(move || in_rust_channel(&receiver));
    repeat(move || {
        thread::sleep(Duration::from_millis(7));
        sender.send(1).unwrap();
    });
    repeat(in_rust_sleep);
    repeat(in_rust_park);
    println!("ready {}", std::process::id());
    for _ in std::io::stdin().lock().lines() {
        let spans = log().lock().unwrap();
        let told: Vec<String> = spans.iter().map(|s| format!("[\"{}\", \"{}\", \"{}\", {}, {}, {}]", s.0, s.1, s.2, s.3, s.4, s.5)).collect();
        println!("{{\"pid\": {}, \"monotonic_ns\": {}, \"functions\": {{}}, \"waits\": [{}]}}", std::process::id(), now_ns(), told.join(", "));
    }
}
