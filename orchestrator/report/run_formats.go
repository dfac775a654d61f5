package report

import "io"

// RunFormat is one form of a report of a run.
type RunFormat struct {
	Name string
	// Suffix is the end of its file's name.
	Suffix string
	Write  func(io.Writer, Run) error
}

// RunFormats lists every form of a report of a run.
func RunFormats() []RunFormat {
	return []RunFormat{
		{"html", ".html", RunHTML},
		{"json", ".json", func(w io.Writer, r Run) error { return JSON(w, r) }},
		{"junit", ".junit.xml", RunJUnit},
		{"markdown", ".md", RunMarkdown},
	}
}
