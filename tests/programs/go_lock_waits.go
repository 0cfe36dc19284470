// Go: waits for known times in known functions, for locks that known functions hold, when it is sent "run"; profiles itself meanwhile, and serves these
// profiles at an address that it tells whoever sends it a line. Ends with its parent's pipe.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"
)

const unit = 20 * time.Millisecond

//go:noinline
func holdsMutex(m *sync.Mutex, begun *sync.WaitGroup, long time.Duration) {
	m.Lock()
	begun.Done()
	time.Sleep(long)
	m.Unlock()
}

//go:noinline
func wantsMutex(m *sync.Mutex, done *sync.WaitGroup) {
	m.Lock()
	m.Unlock()
	done.Done()
}

// One holder, three that wait for it.
func mutexRound() {
	var m sync.Mutex
	var begun, done sync.WaitGroup
	begun.Add(1)
	go holdsMutex(&m, &begun, 2*unit)
	begun.Wait()
	done.Add(3)
	for i := 0; i < 3; i++ {
		go wantsMutex(&m, &done)
	}
	done.Wait()
}

//go:noinline
func convoyMember(m *sync.Mutex, done *sync.WaitGroup) {
	for i := 0; i < 2; i++ {
		m.Lock()
		time.Sleep(unit / 2)
		m.Unlock()
	}
	done.Done()
}

// Five that want the same lock all the time.
func convoyRound() {
	var m sync.Mutex
	var done sync.WaitGroup
	done.Add(5)
	for i := 0; i < 5; i++ {
		go convoyMember(&m, &done)
	}
	done.Wait()
}

//go:noinline
func holdsWriting(m *sync.RWMutex, begun *sync.WaitGroup) {
	m.Lock()
	begun.Done()
	time.Sleep(unit)
	m.Unlock()
}

//go:noinline
func wantsReading(m *sync.RWMutex, done *sync.WaitGroup) {
	m.RLock()
	m.RUnlock()
	done.Done()
}

func rwRound() {
	var m sync.RWMutex
	var begun, done sync.WaitGroup
	begun.Add(1)
	go holdsWriting(&m, &begun)
	begun.Wait()
	done.Add(3)
	for i := 0; i < 3; i++ {
		go wantsReading(&m, &done)
	}
	done.Wait()
}

//go:noinline
func receivesLate(c chan int) { <-c }

//go:noinline
func sendsLate(c chan int) { c <- 1 }

//go:noinline
func selectsLate(a, b chan int) {
	select {
	case <-a:
	case <-b:
	}
}

//go:noinline
func waitsForCond(c *sync.Cond, done *sync.WaitGroup) {
	c.L.Lock()
	c.Wait()
	c.L.Unlock()
	done.Done()
}

//go:noinline
func waitsForGroup(g *sync.WaitGroup) { g.Wait() }

//go:noinline
func deeper(n int, c chan int) int {
	var room [40]int
	room[n%40] = n
	if n == 0 {
		return <-c
	}
	return deeper(n-1, c) + room[n%40]
}

//go:noinline
func startsDeep(n int, c chan int, done *sync.WaitGroup) {
	deeper(n, c)
	done.Done()
}

// Stacks that grow just where a goroutine goes to wait.
func deepRound() {
	c := make(chan int)
	var done sync.WaitGroup
	for n := 0; n < 60; n++ {
		done.Add(1)
		go startsDeep(n, c, &done)
	}
	time.Sleep(unit)
	for n := 0; n < 60; n++ {
		c <- n
	}
	done.Wait()
}

func otherRound() {
	in, out, a, b := make(chan int), make(chan int), make(chan int), make(chan int)
	go func() { time.Sleep(unit); in <- 1 }()
	receivesLate(in)
	go func() { time.Sleep(2 * unit); <-out }()
	sendsLate(out)
	go func() { time.Sleep(unit); b <- 1 }()
	selectsLate(a, b)
	cond := sync.NewCond(&sync.Mutex{})
	var done, group sync.WaitGroup
	done.Add(2)
	go waitsForCond(cond, &done)
	go waitsForCond(cond, &done)
	time.Sleep(unit)
	cond.L.Lock()
	cond.Broadcast()
	cond.L.Unlock()
	done.Wait()
	group.Add(1)
	go func() { time.Sleep(3 * unit / 2); group.Done() }()
	waitsForGroup(&group)
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
	fmt.Println("ready", os.Getpid())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "run" {
			for i := 0; i < 5; i++ {
				mutexRound()
				convoyRound()
				rwRound()
				otherRound()
				deepRound()
			}
		}
		fmt.Printf("{\"address\": %q}\n", listener.Addr())
	}
}
