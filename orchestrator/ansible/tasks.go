package ansible

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Play is one play of a playbook with the number of its tasks, without those that it includes while
// it runs.
type Play struct {
	Name  string
	Tasks int
}

// A line of "ansible-playbook --list-tasks". Names may hold anything but a newline.
var (
	playLine = regexp.MustCompile(`^  play #\d+ \((.*?)\): (.*)\tTAGS: \[`)
	taskLine = regexp.MustCompile(`^      .*\tTAGS: \[`)
)

// Tasks lists the plays of a playbook with "ansible-playbook --list-tasks", which reads all of it
// and asks no node: missing roles, modules and files are an error before anything is done.
func (r *Runner) Tasks(ctx context.Context, p Playbook) ([]Play, error) {
	bin, err := r.binary("ansible-playbook")
	if err != nil {
		return nil, err
	}
	p.Args = append(p.Args, "--list-tasks")
	h, err := r.hand("", firstInherited)
	if err != nil {
		return nil, err
	}
	defer h.end()
	var out, errs bytes.Buffer
	code, err := r.execute(ctx, r.command(bin, p, h), p.Dir, map[string]string{"ANSIBLE_NOCOLOR": "True"}, h.files,
		&out, &errs)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("%s cannot be run: Ansible exited with %d: %s", filepath.Base(p.Path), code,
			ansibleError(errs.String()))
	}
	return parseTasks(out.String()), nil
}

func parseTasks(text string) []Play {
	var plays []Play
	for line := range strings.Lines(text) {
		if m := playLine.FindStringSubmatch(line); m != nil {
			name := m[2]
			if name == "" {
				name = m[1] // Ansible's name for a play without one
			}
			plays = append(plays, Play{Name: name})
		} else if len(plays) > 0 && taskLine.MatchString(line) {
			plays[len(plays)-1].Tasks++
		}
	}
	return plays
}

// Progress counts how far a playbook has got, in the plays that Tasks listed.
type Progress struct {
	Plays []Play
	// at is the current play, before how many tasks were in earlier ones.
	at, before int
	begun      map[string]bool
	running    bool
}

// Add takes an event and returns how many of the listed tasks are done or begun, including this
// one: those of finished plays, and those that the current one has begun. A play that handles its
// hosts in batches begins each of its tasks once. Both are 0 if nothing was listed.
func (p *Progress) Add(e Event) (done, total int) {
	for _, play := range p.Plays {
		total += play.Tasks
	}
	if total == 0 {
		return 0, 0
	}
	switch {
	case e.Event == "play_start":
		p.enter(e.Name)
	case e.Event == "task_start" && e.Task != nil && p.running:
		p.begun[e.Task.Path+" "+e.Task.Name] = true
	case e.Event == "stats":
		return total, total
	}
	if !p.running {
		return 0, total
	}
	return p.before + min(len(p.begun), p.Plays[p.at].Tasks), total
}

// enter moves to the next play of that name; the current one stays if it begins another batch.
func (p *Progress) enter(name string) {
	if p.running && p.Plays[p.at].Name == name {
		return
	}
	next := p.at
	if p.running {
		next++
	}
	for i := next; i < len(p.Plays); i++ {
		if p.Plays[i].Name != name {
			continue
		}
		p.before = 0
		for _, over := range p.Plays[:i] {
			p.before += over.Tasks
		}
		p.at, p.running, p.begun = i, true, map[string]bool{}
		return
	}
}

// callbackSetting is how "ansible-config dump" prints the directories of callbacks: a Python list,
// whatever the format of the version.
var (
	callbackSetting = regexp.MustCompile(`(?m)^DEFAULT_CALLBACK_PLUGIN_PATH\(.*\) = \[(.*)\]`)
	quoted          = regexp.MustCompile(`'([^']*)'|"([^"]*)"`)
)

// CallbackPath returns the directories in which Ansible searches for callbacks when it runs in dir:
// those of the configuration that counts there.
func (r *Runner) CallbackPath(ctx context.Context, dir string) ([]string, error) {
	bin, err := r.binary("ansible-config")
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	code, err := r.execute(ctx, argv{bin, "dump"}, dir, map[string]string{"ANSIBLE_NOCOLOR": "True"}, nil, &out, &errs)
	if err != nil {
		return nil, err
	}
	m := callbackSetting.FindStringSubmatch(out.String())
	if code != 0 || m == nil {
		return nil, fmt.Errorf("ansible-config dump does not list the directories of callbacks; it exited with %d: %s",
			code, ansibleError(errs.String()))
	}
	var paths []string
	for _, q := range quoted.FindAllStringSubmatch(m[1], -1) {
		paths = append(paths, q[1]+q[2])
	}
	return paths, nil
}
