package report_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a headless Chromium with its driver (W3C WebDriver, and Chromium's own protocol for
// what that lacks).
type browser struct {
	t    *testing.T
	base string
}

// openBrowser starts the ChromeDriver that KSCERTCTL_CHROMEDRIVER names, and a browser with a
// profile of its own; both stop with the test.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	driver := os.Getenv("KSCERTCTL_CHROMEDRIVER")
	if driver == "" {
		t.Skip("KSCERTCTL_CHROMEDRIVER names no driver; ./hack/task check:report does")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	cmd := exec.CommandContext(ctx, driver, "--port=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the browser is in it too
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	b := &browser{t: t, base: "http://127.0.0.1:" + port(t, out) + "/session"}
	var session struct {
		SessionID string `json:"sessionId"`
	}
	b.ask(http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"timeouts":          map[string]int{"script": 120_000},
		"goog:loggingPrefs": map[string]string{"browser": "ALL", "performance": "ALL"},
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
		}},
	}}}, &session)
	b.base += "/" + session.SessionID
	t.Cleanup(func() { b.ask(http.MethodDelete, "", struct{}{}, nil) })
	b.ask(http.MethodPost, "/url", map[string]string{"url": "about:blank"}, nil)
	b.requests() // those of the browser's own first page
	b.log("browser")
	return b
}

// port is the port in the output of ChromeDriver.
func port(t *testing.T, out io.Reader) string {
	t.Helper()
	answered := regexp.MustCompile(`successfully on port (\d+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := answered.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return m[1]
		}
	}
	t.Fatal("the driver names no port")
	return ""
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends one command to ChromeDriver.
func (b *browser) ask(method, path string, in, out any) {
	b.t.Helper()
	body, err := json.Marshal(in)
	ok(b.t, err)
	req, err := http.NewRequestWithContext(context.WithoutCancel(b.t.Context()), method, b.base+path, bytes.NewReader(body))
	ok(b.t, err)
	resp, err := http.DefaultClient.Do(req)
	ok(b.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ok(b.t, err)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %s", method, path, answer)
	}
	if out != nil {
		ok(b.t, json.Unmarshal(answer, &struct {
			Value any `json:"value"`
		}{out}))
	}
}

// devtools sends one command of Chromium's own protocol.
func (b *browser) devtools(command string, params map[string]any) {
	b.t.Helper()
	b.ask(http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, nil)
}

// run runs a script in the page; one that calls back is waited for.
func (b *browser) run(out any, script string) {
	b.t.Helper()
	b.ask(http.MethodPost, "/execute/async", map[string]any{"args": []any{}, "script": script}, out)
}

// log returns what has been logged since the last call.
func (b *browser) log(kind string) []string {
	b.t.Helper()
	var lines []struct {
		Message string `json:"message"`
	}
	b.ask(http.MethodPost, "/se/log", map[string]string{"type": kind}, &lines)
	var out []string
	for _, l := range lines {
		out = append(out, l.Message)
	}
	return out
}

// requests are the addresses that were requested since.
func (b *browser) requests() []string {
	b.t.Helper()
	var out []string
	for _, line := range b.log("performance") {
		var event struct {
			Message struct {
				Method string `json:"method"`
				Params struct {
					Request struct {
						URL string `json:"url"`
					} `json:"request"`
				} `json:"params"`
			} `json:"message"`
		}
		ok(b.t, json.Unmarshal([]byte(line), &event))
		if event.Message.Method == "Network.requestWillBeSent" {
			out = append(out, event.Message.Params.Request.URL)
		}
	}
	return out
}

// visit shows a page on a screen of this width, on paper or in a color scheme.
func (b *browser) visit(page string, width int, look string) {
	b.t.Helper()
	media, scheme := "screen", look
	if look == "print" {
		media, scheme = "print", "light"
	}
	b.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
	b.devtools("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
	b.ask(http.MethodPost, "/url", map[string]string{"url": (&url.URL{Scheme: "file", Path: page}).String()}, nil)
}

// picture saves the whole page as shown, if KSCERTCTL_SCREENSHOTS names a directory.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("KSCERTCTL_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct {
		Data string `json:"data"`
	}
	b.ask(http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": "Page.captureScreenshot", "params": map[string]any{"captureBeyondViewport": true}}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	ok(b.t, err)
	ok(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// screen is one way to view a page.
type screen struct {
	width int
	look  string // light, dark or print
}

func screens() []screen {
	return []screen{{360, "light"}, {1280, "light"}, {360, "dark"}, {1280, "dark"}, {800, "print"}}
}

// faults shows a page and returns what is wrong with it: each begins with one word.
func (b *browser) faults(page string, s screen, axe string) (out []string, background string) {
	b.t.Helper()
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	b.visit(page, s.width, s.look)
	for _, address := range b.requests() {
		if !strings.HasPrefix(address, "file://"+page) && !strings.HasPrefix(address, "data:") {
			say("request of %s", address)
		}
	}
	for _, line := range b.log("browser") {
		say("console: %s", line)
	}
	var got struct {
		Width, Shown int
		Background   string
	}
	b.run(&got, `const d = document.scrollingElement;
		arguments[0]({Width: d.scrollWidth, Shown: d.clientWidth, Background: getComputedStyle(document.body).backgroundColor})`)
	if got.Width > got.Shown {
		say("scrolls: it is %d pixels wide, and the screen %d", got.Width, got.Shown)
	}
	if axe != "" {
		var found []struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}
		b.run(&found, axe+`
			;const done = arguments[0]; axe.run().then(r => done(r.violations), e => done([{id: "axe", help: String(e), nodes: []}]))`)
		for _, f := range found {
			say("accessibility: %s: %s: %+v", f.ID, f.Help, f.Nodes[:min(2, len(f.Nodes))])
		}
	}
	return out, got.Background
}

// accessibility is axe-core, where KSCERTCTL_AXE names it.
func accessibility(t *testing.T) string {
	t.Helper()
	path := os.Getenv("KSCERTCTL_AXE")
	if path == "" {
		t.Log("NOT CHECKED: accessibility: KSCERTCTL_AXE names no axe-core")
		return ""
	}
	axe, err := os.ReadFile(path)
	ok(t, err)
	return string(axe)
}

// A report is a page that requests nothing, logs nothing to the console, fits a phone, has both
// color schemes and is accessible.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	axe := accessibility(t)
	dir := t.TempDir()
	for name, r := range runReports() {
		page := filepath.Join(dir, name+".html")
		ok(t, os.WriteFile(page, []byte(renderRun(t, "html", r)), 0o600))
		backgrounds := map[string]string{}
		for _, s := range screens() {
			where := fmt.Sprintf("%s-%s-%d", name, s.look, s.width)
			faults, background := b.faults(page, s, axe)
			for _, f := range faults {
				t.Errorf("%s: %s", where, f)
			}
			backgrounds[s.look] = background
			b.picture(where)
		}
		const white = "rgb(255, 255, 255)"
		if backgrounds["light"] != white || backgrounds["print"] != white || backgrounds["dark"] == white {
			t.Errorf("%s: the colours of the page are %v", name, backgrounds)
		}
	}
}

// The faults that the test above looks for are found.
func TestBrowserFindsFaults(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	axe := accessibility(t)
	page := filepath.Join(t.TempDir(), "faults.html")
	ok(t, os.WriteFile(page, []byte(`<!DOCTYPE html><title>x</title><link rel="icon" href="data:,">
		<p style="width: 2000px; color: #ccc">pale<img src="http://127.0.0.1:1/x.png"><script>console.error("x")</script>`), 0o600))
	got, _ := b.faults(page, screens()[0], axe)
	for _, want := range []string{"request of http://127.0.0.1:1/x.png", "console: ", "scrolls: ", "accessibility: color-contrast", "accessibility: image-alt", "accessibility: html-has-lang"} {
		found := slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, want) })
		if !found && (axe != "" || !strings.HasPrefix(want, "accessibility")) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}
