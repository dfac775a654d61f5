package run

// NotesFile has what a run leaves to its user.
const NotesFile = "notes.json"

// NotesSchema is the version of NotesFile.
const NotesSchema = 1

type notesDocument struct {
	Schema int      `json:"schema"`
	Notes  []string `json:"notes"`
}

// SaveNotes saves what is left to be known or done after the run.
func (d *Dir) SaveNotes(notes []string) error {
	return d.Save(NotesFile, notesDocument{NotesSchema, notes})
}

// LoadNotes returns the saved notes of a run; none if it had none, or was stopped before.
func LoadNotes(root, id string) ([]string, error) {
	var doc notesDocument
	if err := loadNoted(root, id, NotesFile, NotesSchema, &doc); err != nil {
		return nil, err
	}
	return doc.Notes, nil
}
