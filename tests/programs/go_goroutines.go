// Go: goroutines=N that wait in every way, some with labels; spin=N that run, churn=N that do both all the time. Serves its own profiles at an
// address that it tells whoever sends it a line. Ends with its parent's pipe. Needs no newer Go than 1.18.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	never   = make(chan int)
	mutex   sync.Mutex
	rwMutex sync.RWMutex
	group   sync.WaitGroup
	cond    = sync.NewCond(&sync.Mutex{})
	wish    sync.Mutex
	ends    [2]*os.File
)

func receives()    { <-never }
func sends()       { make(chan int) <- 1 }
func receivesNil() { var c chan int; <-c }
func selects() {
	c := make(chan int)
	select {
	case <-c:
	case c <- 1:
	}
}
func selectsNone() { select {} }
func sleeps()      { time.Sleep(time.Hour) }
func locks()       { mutex.Lock() }
func readLocks()   { rwMutex.RLock() }
func writeLocks()  { rwMutex.Lock() }
func waits()       { group.Wait() }
func isLocked()    { runtime.LockOSThread(); <-never }

func waitsCond[T any]() { cond.L.Lock(); cond.Wait() }

func reads() { ends[0].Read(make([]byte, 1)) }

//go:noinline
func deeper(n int, f func()) {
	if n == 0 {
		f()
		return
	}
	deeper(n-1, f)
	runtime.KeepAlive(n)
}

func labeled(i int, f func()) {
	labels := pprof.Labels("number", strconv.Itoa(i%3), "text", "a \"quoted\" \\ one")
	pprof.Do(context.Background(), labels, func(context.Context) { deeper(i%7, f) })
}

func manyLabels() {
	labels := []string{}
	for i := 0; i < 20; i++ {
		labels = append(labels, fmt.Sprint("key", i), strings.Repeat("v", i+1))
	}
	pprof.Do(context.Background(), pprof.Labels(labels...), func(context.Context) { <-never })
}

//go:noinline
func spins() {
	for n := 0; ; n++ {
		runtime.KeepAlive(n)
	}
}

//go:noinline
func churns() {
	for {
		wish.Lock()
		wish.Unlock()
		runtime.Gosched()
		time.Sleep(time.Microsecond)
	}
}

func start(n int) {
	var err error
	if ends[0], ends[1], err = os.Pipe(); err != nil {
		panic(err)
	}
	ways := []func(){receives, sends, receivesNil, selects, selectsNone, sleeps, locks, readLocks, writeLocks, waits, waitsCond[int], reads}
	for i := 0; i < n; i++ {
		f := ways[i%len(ways)]
		switch i % 5 {
		case 0:
			go deeper(i%7, f)
		case 1:
			go labeled(i, f)
		default:
			go f()
		}
	}
	go isLocked()
	go deeper(20, receives)
	go manyLabels()
}

func option(name string) int {
	for _, each := range os.Args[1:] {
		if strings.HasPrefix(each, name+"=") {
			n, _ := strconv.Atoi(each[len(name)+1:])
			return n
		}
	}
	return 0
}

func main() {
	mutex.Lock()
	rwMutex.Lock()
	group.Add(1)
	start(option("goroutines"))
	for i := 0; i < option("spin"); i++ {
		go spins()
	}
	for i := 0; i < option("churn"); i++ {
		go churns()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	fmt.Println("ready", os.Getpid())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Printf("{\"address\": %q}\n", listener.Addr())
	}
}
