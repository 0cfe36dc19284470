// Go: a function and a method in two goroutines. Ends with its parent's pipe.
package main

import (
	"fmt"
	"io"
	"os"
)

type counter struct{ sum uint64 }

//go:noinline
func (c *counter) spin(rounds int) {
	for i := 0; i < rounds; i++ {
		c.sum = c.sum*31 + uint64(i)
	}
}

//go:noinline
func churn(rounds int) (sum uint64) {
	for i := 0; i < rounds; i++ {
		sum = sum*17 ^ uint64(i)
	}
	return sum
}

func main() {
	fmt.Println("ready", os.Getpid())
	go func() {
		c := &counter{}
		for {
			c.spin(1_000_000)
		}
	}()
	go func() {
		for {
			churn(1_000_000)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}
