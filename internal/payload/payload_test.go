package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

const limit = 1 << 20

// coded is what is between the marks, however it came about.
func coded(packed []byte) string {
	return begin + base64.StdEncoding.EncodeToString(packed) + end
}

func packed(tb testing.TB, text []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(text); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// What Ansible takes for a secret has four characters and more: nothing coded has so many in
// a row, without a tab or a line break between them.
func TestNoSecretInCoding(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rand.Int32N(256))
	}
	for _, text := range []string{"", "a", "admin", string(noise), strings.Repeat("password ", 1000)} {
		out := Encode(text)
		if long := regexp.MustCompile(`[^\n\t]{4,}`).FindString(out); long != "" {
			t.Errorf("%q could be a secret", long)
		}
		for _, way := range []string{out, "banner\r\n" + strings.ReplaceAll(out, "\n", "\r\n") + "Connection closed", strings.Join(strings.Fields(out), "")} {
			if got, err := Decode(way, limit); err != nil || got != text {
				t.Errorf("%d bytes became %d: %v", len(text), len(got), err)
			}
		}
	}
}

// Whatever a placeholder takes the place of, and whatever is missing: it is damage, never
// another text.
func TestDamage(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("@@FILE 600 root root 1 1 /etc/kubernetes/admin.conf\n", 20)
	whole := Encode(text)
	for from := 0; from < len(whole)-4; from += 3 {
		for _, masked := range []string{"$REDACTED$", "", "AAAA", "\n"} {
			got, err := Decode(whole[:from]+masked+whole[from+4:], limit)
			if err == nil && got != text {
				t.Fatalf("with %q at %d it is read as %q", masked, from, got)
			}
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("with %q at %d: %v", masked, from, err)
			}
		}
	}
	for name, printed := range map[string]string{
		"nothing": "", "no marks": "@@KSCERT 3 1\n@@END\n", "no end": begin + "QUJD", "ends first": end + begin,
		"two": Encode("a") + Encode("b"), "no gzip": coded([]byte("plain")), "cut off": coded(packed(t, []byte(text))[:30]),
		"a second stream": coded(append(packed(t, []byte("a")), packed(t, []byte("b"))...)), "a tail": coded(append(packed(t, []byte("a")), 0)),
		"another checksum": coded(append(packed(t, []byte("a"))[:20], 0, 0, 0, 0, 1, 0, 0, 0)),
	} {
		if got, err := Decode(printed, limit); !errors.Is(err, ErrDamaged) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// What is short on its way and long behind it is refused, and never held.
func TestBomb(t *testing.T) {
	bomb := coded(packed(t, make([]byte, 64<<20)))
	held := allocated(t, func() {
		if got, err := Decode(bomb, limit); !errors.Is(err, ErrTooLong) || got != "" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	if held > 16*limit {
		t.Errorf("%d bytes were needed to refuse it", held)
	}
	if got, err := Decode(coded(packed(t, make([]byte, limit))), limit); err != nil || len(got) != limit {
		t.Errorf("at the limit: %d bytes, %v", len(got), err)
	}
}

// allocated is how many bytes something allocates.
func allocated(t *testing.T, do func()) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReveal(t *testing.T) {
	t.Parallel()
	coded := strings.TrimSpace(Encode("canary"))
	for _, way := range []string{coded, strings.Join(strings.Fields(coded), ""), strings.ReplaceAll(coded, "\n", `\r\n`), strings.ReplaceAll(strings.ReplaceAll(coded, "\n", `\n`), "\t", `\t`)} {
		if got := string(Reveal([]byte(`{"coded":"` + way + `"} ` + begin + "QUJD" + end))); got != `{"coded":"canary"} `+begin+"QUJD"+end {
			t.Error(got)
		}
	}
}

// A node chooses what is between the marks.
func FuzzDecode(f *testing.F) {
	f.Add(Encode("@@KSCERT 3 1\n@@END\n"))
	f.Add(begin + "H4sI" + end)
	f.Add(coded(packed(f, make([]byte, limit+1))))
	f.Fuzz(func(t *testing.T, printed string) {
		text, err := Decode(printed, limit)
		switch {
		case err == nil && len(text) > limit:
			t.Errorf("%d bytes", len(text))
		case err != nil && (text != "" || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLong)):
			t.Errorf("%q, %v", text, err)
		}
	})
}
