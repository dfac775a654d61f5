package line

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// echo is a server that answers each line, behind the line; and how many turns there were.
func echo(t *testing.T, l Line) (net.Conn, *atomic.Int32) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	server, relay := listen(t), listen(t)
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for in := bufio.NewScanner(c); in.Scan(); {
			fmt.Fprintf(c, "%s!\n", in.Text())
		}
	}()
	var turns atomic.Int32
	l.Turn = func(time.Time) { turns.Add(1) }
	go func() { _ = l.Serve(ctx, relay, server.Addr().String()) }()
	c, err := net.Dial("tcp", relay.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, &turns
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestRoundTrips(t *testing.T) {
	const trip = 20 * time.Millisecond
	c, turns := echo(t, Line{RoundTrip: trip})
	in := bufio.NewReader(c)
	began := time.Now()
	for i := range 5 {
		fmt.Fprintf(c, "%d\n", i)
		if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("%d!\n", i) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if took := time.Since(began); took < 6*trip { // five, and the connection
		t.Errorf("five questions took %s", took)
	}
	if n := turns.Load(); n != 5 {
		t.Errorf("%d turns, want 5", n)
	}
}

// What is lost comes late, once and in order; and the end of one direction ends the other.
func TestLosesNothing(t *testing.T) {
	c, _ := echo(t, Line{RoundTrip: 2 * time.Millisecond, Loss: 0.2})
	var want strings.Builder
	go func() {
		for i := range 40 {
			fmt.Fprintf(c, "%d\n", i)
			time.Sleep(time.Millisecond)
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	for i := range 40 {
		fmt.Fprintf(&want, "%d!\n", i)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != want.String() {
		t.Errorf("%v:\n%s", err, got)
	}
}
