package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// picture is a drawing with the width of the page: horizontal positions are percent of that,
// vertical ones are pixels, so that texts keep their size on every screen.
type picture struct {
	Height int
	Rows   []pictureRow
	Ticks  []tick
	// Now is the time of the run on an axis of dates; Breaks are where it was resumed on an axis of
	// work.
	Now    percent
	Breaks []percent
	// Top and Bottom are where the axis begins and ends.
	Top, Bottom int
}

// pictureRow is what belongs to one label.
type pictureRow struct {
	Label, Hint string
	LabelY      int
	Bars        []bar
}

// bar is a span of time.
type bar struct {
	X, Width  percent
	Y, Height int
	// Class is how it is painted, Title what it is.
	Class, Title string
	// Number is written below it if there is space.
	Number *tick
}

// tick is a label at a horizontal position; Anchor keeps it inside of the picture.
type tick struct {
	X             percent
	Y             int
	Label, Anchor string
}

// percent of the width.
type percent float64

func (p percent) String() string { return fmt.Sprintf("%.2f%%", float64(p)) }

// axis maps times to percent of the width, over one span or over several that are
// put one after another.
type axis struct{ spans [][2]time.Time }

func (a axis) total() time.Duration {
	var sum time.Duration
	for _, s := range a.spans {
		sum += s[1].Sub(s[0])
	}
	return sum
}

// at is the position of a time; what is outside is moved to the nearest end.
func (a axis) at(t time.Time) percent {
	var before time.Duration
	for _, s := range a.spans {
		if t.Before(s[1]) {
			before += max(0, t.Sub(s[0]))
			break
		}
		before += s[1].Sub(s[0])
	}
	return percent(100 * float64(before) / float64(max(1, a.total())))
}

// span is the position of a bar: never so thin that it cannot be seen.
func (a axis) span(from, to time.Time) (x, width percent) {
	const least = 1.2
	x = min(a.at(from), 100-least)
	return x, max(a.at(to)-x, least)
}

// tickAt keeps labels at the ends inside of the picture.
func tickAt(x percent, y int, label string) tick {
	anchor := "middle"
	switch {
	case x < 8:
		anchor = "start"
	case x > 92:
		anchor = "end"
	}
	return tick{X: x, Y: y, Label: label, Anchor: anchor}
}

// The measures of both pictures, in pixels.
const (
	tickY       = 14
	axisHeight  = 22
	labelHeight = 17
	rowGap      = 12
)

// most is how many ticks fit a phone.
const most = 4

// timeline draws what was done on which nodes, over the periods of work.
func timeline(r Run, lanes []lane) picture {
	const barHeight, numberHeight = 14, 13
	var a axis
	for _, w := range r.Work {
		a.spans = append(a.spans, [2]time.Time{w.Began, w.Ended})
	}
	p := picture{Top: axisHeight}
	for _, w := range r.Work[min(1, len(r.Work)):] {
		p.Breaks = append(p.Breaks, a.at(w.Began))
	}
	y := axisHeight + rowGap/2
	for _, l := range lanes {
		row := pictureRow{Label: l.Nodes, LabelY: y + labelHeight - 5}
		free := percent(-1) // from here on there is space for a number
		for _, s := range l.Steps {
			for i, t := range s.Attempts {
				x, width := a.span(t.Began, t.Ended)
				b := bar{X: x, Width: width, Y: y + labelHeight, Height: barHeight, Class: paint(s, t, i),
					Title: fmt.Sprintf("%s %s: %s, %s", s.Number, s.Title, s.Runs, s.Result)}
				if x >= free {
					number := tickAt(x, y+labelHeight+barHeight+numberHeight-2, s.Number)
					if number.Anchor == "end" {
						number.X = x + width
					} else {
						number.Anchor = "start" // where the bar begins
					}
					b.Number, free = &number, x+6
				}
				row.Bars = append(row.Bars, b)
			}
		}
		p.Rows = append(p.Rows, row)
		y += labelHeight + barHeight + numberHeight + rowGap
	}
	p.Bottom, p.Height = y, y
	step := roundDuration(a.total() / most)
	for d := time.Duration(0); len(a.spans) > 0 && d <= a.total(); d += step {
		p.Ticks = append(p.Ticks, tickAt(percent(100*float64(d)/float64(max(1, a.total()))), tickY, shortDuration(d)))
	}
	return p
}

// paint returns how an attempt is painted: an earlier one that was continued has not succeeded.
func paint(s stepRow, t Attempt, i int) string {
	status := s.Status
	if i < len(s.Attempts)-1 {
		status = cmp.Or(StepStatus(t.Outcome), StepKilled)
	}
	class := "step"
	if s.Gate != "" {
		class = "gate"
	}
	return class + " " + string(status)
}

// roundDuration is the next larger round duration.
func roundDuration(d time.Duration) time.Duration {
	units := []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 5 * day, 10 * day, 20 * day,
	}
	for _, u := range units {
		if u >= d {
			return u
		}
	}
	return d.Truncate(day)
}

const day = 24 * time.Hour

func shortDuration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour && d%time.Minute != 0:
		return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return d.String()
	}
}

// lifetimesPicture draws from when to when each certificate was and is valid. What reaches further
// than the leaves, as CAs do, runs to the edge.
func lifetimesPicture(r Run, rows []certificateRow) picture {
	const barHeight, between = 7, 3
	a := axis{spans: [][2]time.Time{leafSpan(r, rows)}}
	p := picture{Top: axisHeight, Now: a.at(r.Began)}
	y := axisHeight + rowGap/2
	for _, c := range rows {
		row := pictureRow{Label: c.Name, Hint: c.Where, LabelY: y + labelHeight - 5}
		y += labelHeight
		for _, v := range []struct {
			*Validity
			when string
		}{{c.Before, "before"}, {c.After, "after"}} {
			if v.Validity != nil {
				x, width := a.span(v.NotBefore, v.NotAfter)
				row.Bars = append(row.Bars, bar{
					X: x, Width: width, Y: y, Height: barHeight, Class: v.when + " " + string(v.Status),
					Title: fmt.Sprintf("%s: %s to %s, %s", v.when, v.NotBefore.UTC().Format(time.DateOnly),
						v.NotAfter.UTC().Format(time.DateOnly), v.Status),
				})
			}
			if v.when == "before" || r.After != nil {
				y += barHeight + between
			}
		}
		p.Rows = append(p.Rows, row)
		y += rowGap
	}
	p.Bottom, p.Height = y, y
	for _, t := range dates(a.spans[0]) {
		p.Ticks = append(p.Ticks, tickAt(a.at(t.at), tickY, t.label))
	}
	return p
}

// leafSpan is the time that the lifetimes of leaves cover, but not more than about a year before
// the run and two after it.
func leafSpan(r Run, rows []certificateRow) [2]time.Time {
	from, to := r.Began.Add(-day), r.Began.Add(day)
	for _, c := range rows {
		for _, v := range []*Validity{c.Before, c.After} {
			if v == nil || c.IsCA {
				continue
			}
			if v.NotBefore.Before(from) {
				from = v.NotBefore
			}
			if v.NotAfter.After(to) {
				to = v.NotAfter
			}
		}
	}
	latest := func(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
	earliest := func(a, b time.Time) time.Time { return slices.MinFunc([]time.Time{a, b}, time.Time.Compare) }
	return [2]time.Time{latest(from, r.Began.Add(-400*day)), earliest(to, r.Began.Add(800*day))}
}

// date is a tick of a calendar.
type date struct {
	at    time.Time
	label string
}

// dates are round ones within a span: first days of months, or days if it is short.
func dates(span [2]time.Time) []date {
	from, to := span[0].UTC(), span[1].UTC()
	var out []date
	if long := to.Sub(from); long <= 90*day {
		step := max(roundDuration(long/most), day)
		for t := from.Truncate(day).Add(day); t.Before(to); t = t.Add(step) {
			out = append(out, date{t, t.Format("2 Jan")})
		}
		return out
	}
	months := 1
	for _, m := range []int{1, 2, 3, 6, 12, 24} {
		if months = m; to.Sub(from) <= time.Duration(most*m)*30*day {
			break
		}
	}
	for t := time.Date(from.Year(), 1, 1, 0, 0, 0, 0, time.UTC); t.Before(to); t = t.AddDate(0, months, 0) {
		if t.After(from) {
			out = append(out, date{t, t.Format("Jan 2006")})
		}
	}
	return out
}
