// Go: methods, closures, generics and much of the standard library.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
)

type shape interface{ area() float64 }

type square struct{ side float64 }

func (s *square) area() float64 { return s.side * s.side }

type named[T any] struct {
	name  string
	inner T
}

func (n named[T]) size() int { return len(n.name) }

func mapped[T, U any](list []T, f func(T) U) []U {
	out := make([]U, 0, len(list))
	for _, v := range list {
		out = append(out, f(v))
	}
	return out
}

func words(text string) map[string]int {
	counts := map[string]int{}
	for _, w := range strings.Fields(text) {
		counts[strings.ToLower(w)]++
	}
	return counts
}

func main() {
	var s shape = &square{2}
	counts := words(strings.Join(os.Args, " "))
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return counts[keys[i]] > counts[keys[j]] })
	sizes := mapped(keys, func(k string) int { return named[int]{k, 1}.size() })
	text, err := json.Marshal(map[string]any{"area": s.area(), "sizes": sizes})
	fmt.Println(string(text), err)
}
