// Go's frames: kept by frame pointers, on stacks of the runtime's own.
package main

import (
	"fmt"
	"runtime"
	"sort"
)

var sink uint64

//go:noinline
func leaf(n uint64) uint64 {
	sink += n
	return n*3 + sink
}

//go:noinline
func recursive(depth uint64) uint64 {
	var local [8]uint64
	for i := range local {
		local[i] = leaf(depth + uint64(i))
	}
	if depth == 0 {
		return local[3]
	}
	return recursive(depth-1) + local[depth%8]
}

//go:noinline
func recovers(n uint64) (result uint64) {
	defer func() {
		if recover() != nil {
			result = leaf(4)
		}
	}()
	if n > 2 {
		panic("three")
	}
	return leaf(n)
}

//go:noinline
func stepBegin() {
	values := []int{5, 3, 9, 1, 7}
	sort.Slice(values, func(i, j int) bool { leaf(uint64(i)); return values[i] < values[j] })
	sink += recursive(4) + recovers(1) + recovers(3)
	text := fmt.Sprintf("%d %s", sink, "text")
	counts := map[string]int{text: 1}
	counts["other"]++
	sink += uint64(len(counts))
}

//go:noinline
func stepEnd() {
	leaf(1)
}

func init() {
	runtime.LockOSThread()
}

func main() {
	stepBegin()
	stepEnd()
}
