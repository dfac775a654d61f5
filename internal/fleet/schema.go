package fleet

import (
	"maps"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

// object is a JSON object; its keys are written in alphabetical order.
type object = map[string]any

// JSONSchema describes the file for editors and linters, in draft 2020-12; known are the
// settings that clusters may have.
func JSONSchema(known config.Known) any {
	name := object{"type": "string", "pattern": labelName.String()}
	text := object{"type": "string", "minLength": 1}
	texts := object{"anyOf": []object{text, {"type": "array", "minItems": 1, "items": text}}}
	settings := object{"$ref": "#/$defs/settings"}
	zone := object{"type": "string", "minLength": 1,
		"description": "A time zone such as Europe/Berlin; UTC where none is set."}
	clock := object{"type": "string", "pattern": clock.String()}
	day := object{"enum": days}
	described := func(o object, text string) object {
		out := object{"description": text}
		maps.Copy(out, o)
		return out
	}
	window := object{
		"type": "object", "additionalProperties": false, "required": []string{"from", "to"},
		"properties": object{
			"days": described(object{"anyOf": []object{day, {"type": "array", "minItems": 1, "items": day}}},
				"The days on which it opens; every day where none is set."),
			"from":      described(clock, "When it opens."),
			"to":        described(clock, "When it closes; not after from: on the next day."),
			"time-zone": zone,
		},
	}
	cluster := object{
		"type": "object", "additionalProperties": false,
		"oneOf": []object{{"required": []string{"name", "inventories"}}, {"required": []string{"each"}}},
		"properties": object{
			"name":        described(name, "What the cluster is called."),
			"inventories": described(texts, "Its inventories: paths, patterns such as *.ini, or lists of hosts."),
			"each": described(text,
				"Instead of name and inventories: a pattern or a directory; "+
					"a cluster for each inventory that it finds."),
			"labels": object{"type": "object", "description": "For --selector, as in Kubernetes.",
				"additionalProperties": object{"type": "string", "pattern": "^$|" + labelName.String()}},
			"settings": settings,
			"windows": object{"type": "array", "minItems": 1, "items": window,
				"description": "When it may be changed; at any time where none is set."},
			"wave": described(name, "One of the waves; after all of them where none is set."),
			"hold": described(text, "Why it is left alone: then it is never changed."),
		},
	}
	return object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   FileName + ", version 1",
		"description": "A fleet of clusters. A field may be added within a version; none is removed or " +
			"changes its meaning.",
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"clusters"},
		"properties": object{
			"time-zone": zone,
			"waves": object{"anyOf": []object{name,
				{"type": "array", "minItems": 1, "items": name, "uniqueItems": true}},
				"description": "The waves in their order: one begins when those before it are done."},
			"failure-domain": object{
				"type": "object", "additionalProperties": false, "required": []string{"label"},
				"properties": object{
					"label": described(text, "The label whose value is a cluster's failure domain."),
					"at-once": object{"type": "integer", "minimum": 1,
						"description": "How many clusters of one are changed at the same time; 1 where it is not set."},
				},
			},
			"settings": settings,
			"clusters": object{"type": "array", "minItems": 1, "items": cluster},
		},
		"$defs": object{"settings": described(known.Schema(),
			"Settings as in kscertctl.yaml; those of a cluster count before those of the fleet.")},
	}
}
