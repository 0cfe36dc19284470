// Go: a program that serves its own profiles at an address that it tells whoever sends it a line, and works on much of the standard library: generic functions,
// methods, closures, inlined calls. Ends with its parent's pipe.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sort"
	"strings"
)

type number interface{ ~int | ~float64 }

type list[T number] struct{ items []T }

//go:noinline
func (l *list[T]) sum() (s T) {
	for _, v := range l.items {
		s += square(v)
	}
	return s
}

func square[T number](v T) T { return v*v + bounded(v) }

func bounded[T number](v T) T {
	if v > 100 {
		return v / 3
	}
	return v + 1
}

type shape interface{ area() float64 }
type rect struct{ w, h float64 }

func (r rect) area() float64 { return r.w * r.h }

//go:noinline
func closures(n int) (total int) {
	defer func() { total++ }()
	each := func(i int) { total += i * i % 7 }
	for i := 0; i < n; i++ {
		each(i)
	}
	return total
}

//go:noinline
func visit[K comparable, V any](m map[K]V, f func(K, V)) {
	for k, v := range m {
		f(k, v)
	}
}

func fill() (*list[int], *list[float64], []shape) {
	ints, floats, shapes := &list[int]{}, &list[float64]{}, []shape{}
	for i := 0; i < 1000; i++ {
		ints.items = append(ints.items, i)
		floats.items = append(floats.items, float64(i))
		shapes = append(shapes, rect{float64(i), 2})
	}
	return ints, floats, shapes
}

func work() {
	ints, floats, shapes := fill()
	counts := map[string]int{}
	for {
		area := floats.sum() + float64(closures(10000))
		for range 200 {
			area += float64(ints.sum())
		}
		for _, s := range shapes {
			area += s.area()
		}
		text, _ := json.Marshal(map[string]any{"area": area, "ints": ints.items})
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write(text)
		w.Close()
		sha256.Sum256(packed.Bytes())
		for i := 0; i < 1000; i++ {
			counts[strings.Repeat("x", i%13)+fmt.Sprint(i)] += i
		}
		visit(counts, func(_ string, v int) { area += float64(v) })
		sort.Slice(ints.items, func(i, j int) bool { return ints.items[i]%17 < ints.items[j]%17 })
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("ready", os.Getpid())
	go http.Serve(listener, nil)
	go work()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Printf("{\"address\": %q}\n", listener.Addr())
	}
}
