// Idle until told: at a line that is not empty three threads wait for one, 20 times each, for a mutex, a lock of readers and writers, a
// condition, and parked until it unparks them. Each line is answered with the truth: how long each function waited, in nanoseconds.
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

const HOLD: Duration = Duration::from_millis(4);
static MUTEX_NS: AtomicU64 = AtomicU64::new(0);
static READ_NS: AtomicU64 = AtomicU64::new(0);
static WRITE_NS: AtomicU64 = AtomicU64::new(0);
static CONDITION_NS: AtomicU64 = AtomicU64::new(0);
static PARKED_NS: AtomicU64 = AtomicU64::new(0);

fn add(to: &AtomicU64, began: Instant) {
    let ns = began.elapsed().as_nanos() as u64;
    if ns > 1_000_000 {
        to.fetch_add(ns, Ordering::Relaxed);
    }
}

#[inline(never)]
fn wait_mutex(lock: &Mutex<u64>) {
    let began = Instant::now();
    *lock.lock().unwrap() += 1;
    add(&MUTEX_NS, began);
}

#[inline(never)]
fn release_mutex(lock: &Mutex<u64>) -> u64 {
    let mut guard = lock.lock().unwrap();
    thread::sleep(HOLD);
    *guard += 1;
    drop(guard);
    std::hint::black_box(1)
}

#[inline(never)]
fn wait_read(lock: &RwLock<u64>) -> u64 {
    let began = Instant::now();
    let value = *lock.read().unwrap();
    add(&READ_NS, began);
    value
}

#[inline(never)]
fn wait_write(lock: &RwLock<u64>) {
    let began = Instant::now();
    *lock.write().unwrap() += 1;
    add(&WRITE_NS, began);
}

#[inline(never)]
fn release_write(lock: &RwLock<u64>) -> u64 {
    let mut guard = lock.write().unwrap();
    thread::sleep(HOLD);
    *guard += 1;
    drop(guard);
    std::hint::black_box(1)
}

#[inline(never)]
fn release_read(lock: &RwLock<u64>) -> u64 {
    let guard = lock.read().unwrap();
    thread::sleep(HOLD);
    let value = *guard;
    drop(guard);
    std::hint::black_box(value)
}

#[inline(never)]
fn wait_condition(pair: &(Mutex<bool>, Condvar)) {
    let began = Instant::now();
    let mut done = pair.0.lock().unwrap();
    while !*done {
        done = pair.1.wait(done).unwrap();
    }
    add(&CONDITION_NS, began);
}

#[inline(never)]
fn signal_condition(pair: &(Mutex<bool>, Condvar)) -> u64 {
    thread::sleep(HOLD);
    *pair.0.lock().unwrap() = true;
    pair.1.notify_all();
    std::hint::black_box(1)
}

#[inline(never)]
fn wait_parked(done: &AtomicBool) {
    let began = Instant::now();
    while !done.load(Ordering::SeqCst) {
        thread::park();
    }
    add(&PARKED_NS, began);
}

fn run_parked() {
    let done = Arc::new(AtomicBool::new(false));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let done = done.clone();
            thread::spawn(move || wait_parked(&done))
        })
        .collect();
    thread::sleep(HOLD);
    done.store(true, Ordering::SeqCst);
    for waiter in waiters {
        waiter.thread().unpark();
        waiter.join().unwrap();
    }
}

// Threads wait while this one holds: they begin once it does.
fn run<T: Send + Sync + 'static>(shared: T, wait: fn(&T), hold: fn(&T) -> u64) {
    let shared = Arc::new(shared);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(1));
                wait(&shared)
            })
        })
        .collect();
    hold(&shared);
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

fn main() {
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", std::process::id()).unwrap();
    for line in std::io::stdin().lock().lines() {
        let rounds = if line.unwrap().is_empty() { 0 } else { 20 };
        for _ in 0..rounds {
            run(Mutex::new(0), wait_mutex, release_mutex);
            run(RwLock::new(0), |lock| { wait_read(lock); }, release_write);
            run(RwLock::new(0), wait_write, release_read);
            run((Mutex::new(false), Condvar::new()), wait_condition, signal_condition);
            run_parked();
        }
        let told = [("wait_mutex", &MUTEX_NS), ("wait_read", &READ_NS), ("wait_write", &WRITE_NS), ("wait_condition", &CONDITION_NS), ("wait_parked", &PARKED_NS)];
        let told = told.map(|(name, ns)| format!("\"{}\": {{\"cpu_ns\": {}, \"calls\": 0}}", name, ns.load(Ordering::Relaxed)));
        writeln!(out, "{{\"functions\": {{{}}}}}", told.join(", ")).unwrap();
        out.flush().unwrap();
    }
}
