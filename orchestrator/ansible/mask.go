package ansible

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// masked replaces what may be a password in records.
const masked = "********"

// shortest is the minimum length of a masked word: shorter ones occur everywhere.
const shortest = 4

// openLong are options of ansible-playbook whose values are no passwords.
const openLong = `--(become-method|become-user|connection|forks|key-file|module-path|private-key|timeout|user)`

var (
	// argumentWord is a piece that a shell, ssh or JSON leaves whole.
	argumentWord = regexp.MustCompile(`[^\s'"\\%]+`)
	// openOption is an option of ssh, sftp or Ansible whose value is no password.
	openOption = regexp.MustCompile(`^(?i:AddressFamily|BatchMode|BindAddress|Ciphers|Compression|ConnectionAttempts|` +
		`ConnectTimeout|Control(Master|Path|Persist)|ForwardAgent|(Global|User)KnownHostsFile|HostKey(Algorithms|Alias)|` +
		`HostName|IdentitiesOnly|Identity(Agent|File)|KexAlgorithms|LogLevel|MACs|Port|PreferredAuthentications|ProxyJump|` +
		`PubkeyAcceptedAlgorithms|ServerAlive(CountMax|Interval)|StrictHostKeyChecking|User|` + openLong + `)=`)
	// openFlag is a flag whose value is the next word, and no password.
	openFlag = regexp.MustCompile(`^(-[FJSTMcfilu]|` + openLong + `)$`)
)

// mask replaces what may be a password in a text; nil replaces nothing.
type mask struct{ *strings.Replacer }

// mask is for extra variables, and for words in the arguments of ssh and in Args: a ProxyCommand
// may have a password, and a verbose Ansible prints it.
func (o Options) mask() *mask {
	words := slices.DeleteFunc(slices.Clone(o.ExtraVars), func(v string) bool { return strings.HasPrefix(v, "@") })
	before := ""
	all := append([]string{o.SSHCommonArgs, o.SSHExtraArgs, o.SFTPExtraArgs, o.SCPExtraArgs}, o.Args...)
	for _, word := range argumentWord.FindAllString(strings.Join(all, "\n"), -1) {
		switch _, value, is := strings.Cut(word, "="); {
		case openFlag.MatchString(before), openOption.MatchString(word):
		case is:
			words = append(words, append(strings.Split(value, "="), value)...)
		case strings.HasPrefix(word, "--"):
		case strings.HasPrefix(word, "-"): // -pPASSWORD
			words = append(words, word[min(2, len(word)):])
		default:
			words = append(words, word)
		}
		before = word
	}
	words = slices.DeleteFunc(words, func(w string) bool { return len(w) < shortest })
	if len(words) == 0 {
		return nil
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, w := range words {
		pairs = append(pairs, w, masked)
	}
	return &mask{strings.NewReplacer(pairs...)}
}

// evidence masks an event's description of a failure.
func (m *mask) evidence(e *Evidence) {
	if m == nil || e == nil {
		return
	}
	for _, text := range []*string{&e.Msg, &e.Stdout, &e.Stderr, &e.ModuleStdout, &e.ModuleStderr, &e.Reason} {
		*text = m.Replace(*text)
	}
	for i := range e.Items {
		e.Items[i] = m.Replace(e.Items[i])
	}
}

// file masks a file that Ansible has written.
func (m *mask) file(path string) error {
	if m == nil {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if clean := m.Replace(string(text)); clean != string(text) {
		return os.WriteFile(path, []byte(clean), 0o600) //nolint:gosec // the file of this run
	}
	return nil
}

// masker masks what is written to it, line by line; flush writes the rest.
type masker struct {
	mask *mask
	w    io.Writer
	held []byte
}

func (m *masker) Write(p []byte) (int, error) {
	if m.mask == nil {
		return m.w.Write(p)
	}
	m.held = append(m.held, p...)
	end := bytes.LastIndexByte(m.held, '\n') + 1
	if end == 0 && len(m.held) > maxLine {
		end = len(m.held) // the clipper keeps no more of a line
	}
	err := m.pass(end)
	return len(p), err
}

func (m *masker) flush() error { return m.pass(len(m.held)) }

func (m *masker) pass(end int) error {
	if end == 0 {
		return nil
	}
	_, err := io.WriteString(m.w, m.mask.Replace(string(m.held[:end])))
	m.held = m.held[end:]
	return err
}
