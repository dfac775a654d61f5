package run

// NotesFile has what a run leaves to its user.
const NotesFile = "notes.json"

// NotesSchema is the version of NotesFile.
const NotesSchema = 1

type notesDocument struct {
	Schema int      `json:"schema"`
	Notes  []string `json:"notes"`
}

// SaveNotes writes down, in words, what is left to be known or done after the run.
func (d *Dir) SaveNotes(notes []string) error {
	return d.Save(NotesFile, notesDocument{NotesSchema, notes})
}

// LoadNotes returns what a run wrote down; none of one that had nothing to say, or
// was stopped before.
func LoadNotes(root, id string) ([]string, error) {
	var doc notesDocument
	if err := loadNoted(root, id, NotesFile, NotesSchema, &doc); err != nil {
		return nil, err
	}
	return doc.Notes, nil
}
