package report

import (
	"encoding/json"
	"io"
)

// JSON writes a document, indented.
func JSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}
