package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // where a machine or an image has no time zones
)

// Window is a time on some days of the week in which a cluster may be changed.
type Window struct {
	// Days on which it opens; every day when empty.
	Days []time.Weekday
	// From and To are minutes of the day by the clock of Zone. One that ends at or before
	// its beginning ends on the next day.
	From, To int
	Zone     *time.Location
}

// on returns when the window that opens on the day of a time opens and closes. A clock
// that is put forward or back then moves both, as it does for people.
func (w Window) on(day time.Time) (from, to time.Time, ok bool) {
	if len(w.Days) > 0 && !slices.Contains(w.Days, day.Weekday()) {
		return from, to, false
	}
	y, m, d := day.Date()
	end := w.To
	if end <= w.From {
		end += 24 * 60
	}
	from, to = w.at(y, m, d, w.From), w.at(y, m, d, end)
	return from, to, from.Before(to)
}

// at is when the clock shows a minute of the day, or, if it skips that, the moment when it is put forward.
func (w Window) at(y int, m time.Month, d, minute int) time.Time {
	t := time.Date(y, m, d, 0, minute, 0, 0, w.Zone)
	const day = 24 * 60
	switch after := t.Hour()*60 + t.Minute() - minute%day; {
	case after > 0: // taken as if the clock had not been put forward yet
		t, _ = t.ZoneBounds()
	case after < 0:
		_, t = t.ZoneBounds()
	}
	return t
}

// Windows are all of a cluster; without any it may be changed at any time.
type Windows []Window

// Open reports whether a cluster may be changed now.
func (all Windows) Open(now time.Time) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(w Window) bool {
		for back := range 2 { // that of today, and that of yesterday which goes on after midnight
			from, to, ok := w.on(w.day(now, -back))
			if ok && !now.Before(from) && now.Before(to) {
				return true
			}
		}
		return false
	})
}

// Next returns when the next one opens, after now; zero without any.
func (all Windows) Next(now time.Time) (next time.Time) {
	for _, w := range all {
		for ahead := range 16 { // two weeks, and a day: one may lie in an hour that the clock skips
			from, _, ok := w.on(w.day(now, ahead))
			if ok && from.After(now) {
				if next.IsZero() || from.Before(next) {
					next = from
				}
				break
			}
		}
	}
	return next
}

// day is noon of a day, counted from now: every day has one.
func (w Window) day(now time.Time, offset int) time.Time {
	y, m, d := now.In(w.Zone).Date()
	return time.Date(y, m, d+offset, 12, 0, 0, 0, w.Zone)
}

var clock = regexp.MustCompile(`^([01][0-9]|2[0-4]):([0-5][0-9])$`)

// parseClock reads a time of day such as 22:30 in minutes; 24:00 is the end of a day.
func parseClock(s string) (int, error) {
	m := clock.FindStringSubmatch(s)
	if m == nil || m[1] == "24" && m[2] != "00" {
		return 0, fmt.Errorf("must be a time of day such as \"22:30\", in quotes")
	}
	hours, _ := strconv.Atoi(m[1])
	minutes, _ := strconv.Atoi(m[2])
	return hours*60 + minutes, nil
}

// days are the names of the days of the week.
var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func parseDay(s string) (time.Weekday, error) {
	i := slices.Index(days, strings.ToLower(s))
	if i < 0 {
		return 0, fmt.Errorf("must be one of mon, tue, wed, thu, fri, sat, sun")
	}
	return time.Weekday(i), nil
}

// ParseZone reads the name of a time zone. "Local" is refused: it means another zone on
// another machine.
func ParseZone(s string) (*time.Location, error) {
	zone, err := time.LoadLocation(s)
	if err != nil || s == "Local" || s == "" {
		return nil, fmt.Errorf("must be the name of a time zone such as Europe/Berlin or UTC")
	}
	return zone, nil
}
