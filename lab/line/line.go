// Package line relays TCP connections as a slow line that loses segments would carry them.
package line

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// segment is the payload of a TCP segment in an Ethernet frame.
	segment = 1460
	// minRTO is how long Linux waits at least for an acknowledgment beyond the round trip, before it
	// sends a segment once more (TCP_RTO_MIN).
	minRTO = 200 * time.Millisecond
	// window is how many segments may be on their way.
	window = 256
)

// Line is a line between this machine and another.
type Line struct {
	// RoundTrip is the time that a question and its answer take.
	RoundTrip time.Duration
	// Loss is the share of lost segments, from 0 to 1. A lost one and those behind it come later by a
	// retransmission timeout: TCP hides the loss, and not the wait.
	Loss float64
	// Turn, if set, is called whenever this side sends something after an answer: one round trip that
	// could not begin before.
	Turn func(time.Time)
}

// Serve relays the connections of l to an address until the context is done.
func (l Line) Serve(ctx context.Context, from net.Listener, to string) error {
	var open sync.WaitGroup
	defer open.Wait()
	defer context.AfterFunc(ctx, func() { _ = from.Close() })()
	for {
		near, err := from.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		open.Go(func() { l.relay(ctx, near, to) })
	}
}

func (l Line) relay(ctx context.Context, near net.Conn, to string) {
	defer near.Close()
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
	time.Sleep(l.RoundTrip) // SYN and SYN-ACK
	var answered atomic.Bool
	answered.Store(true)
	var ways sync.WaitGroup
	ways.Go(func() {
		l.carry(far, near, func() {
			if answered.CompareAndSwap(true, false) && l.Turn != nil {
				l.Turn(time.Now())
			}
		})
	})
	ways.Go(func() { l.carry(near, far, func() { answered.Store(true) }) })
	ways.Wait()
}

// carry copies in one direction until the source ends; passing is called for each segment.
func (l Line) carry(to, from net.Conn, passing func()) {
	type piece struct {
		data []byte
		due  time.Time
	}
	way := make(chan piece, window)
	go func() {
		defer close(way)
		var last time.Time
		for {
			data := make([]byte, segment)
			n, err := from.Read(data)
			if n > 0 {
				passing()
				due := time.Now().Add(l.RoundTrip / 2)
				if rand.Float64() < l.Loss {
					due = due.Add(l.RoundTrip + minRTO)
				}
				if due.Before(last) { // TCP delivers in order
					due = last
				}
				last = due
				way <- piece{data[:n], due}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			_ = from.Close()
			for range way { // the other goroutine must not wait for space
			}
			return
		}
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
