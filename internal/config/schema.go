package config

import "math"

// object is a JSON object; its keys are written in alphabetical order.
type object = map[string]any

// patterns are JSON Schema's patterns for the values of a kind.
var patterns = map[Kind]string{
	Duration: `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`,
	Time:     `^([0-9]+d|\+?0|\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`,
}

// JSONSchema describes the file for editors and linters, in draft 2020-12.
func JSONSchema(known Known) any {
	schema := known.Schema()
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = FileName + ", version 1"
	schema["description"] = "Settings of kscertctl. A setting may be added within a version; none is removed or " +
		"changes its meaning."
	return schema
}

// Schema describes a mapping of settings, for a schema that it is a part of.
func (k Known) Schema() map[string]any {
	properties := object{}
	for _, s := range k.Settings {
		value := s.schema()
		if s.List {
			value = object{"anyOf": []object{value, {"type": "array", "minItems": 1, "items": value}}}
		}
		value["description"] = s.Usage
		properties[s.Name] = value
	}
	return object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}

// schema returns the schema of one value.
func (s Setting) schema() object {
	switch {
	case s.Values != nil:
		return object{"enum": s.Values}
	case s.Kind == Bool:
		return object{"type": "boolean"}
	case s.Kind == Integer:
		return object{"type": "integer", "minimum": 0, "maximum": math.MaxInt32}
	case s.ByFile:
		return object{"type": "string", "pattern": "^@", "minLength": 2}
	case patterns[s.Kind] != "":
		return object{"type": "string", "pattern": patterns[s.Kind]}
	default:
		return object{"type": "string", "minLength": 1}
	}
}
