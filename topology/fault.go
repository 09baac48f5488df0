package topology

import (
	"errors"
	"fmt"
	"strconv"
)

// Entity is what a fault, a warning or an error is about.
type Entity string

// The entities of a topology.
const (
	EntityExchange Entity = "exchange"
	EntityQueue    Entity = "queue"
	EntityBinding  Entity = "binding"
)

// Fault is one thing in a topology that cannot be declared, or that cannot mean
// what it says. Validate joins all of them; errors.As finds the first.
type Fault struct {
	Entity  Entity
	Name    string // of the exchange or queue; for a binding what String says
	Field   string // the struct field, or Arguments["key"]; empty for the whole entity
	Problem string // what is wrong
	Hint    string // what to do about it; can be empty
}

// Error is one line that names the entity and the field.
func (f *Fault) Error() string {
	return describeFinding(f.Entity, f.Name, f.Field, f.Problem, f.Hint)
}

// Warning is one thing in a topology that the broker takes and that is probably a
// mistake, or that depends on the broker's version.
type Warning struct {
	Entity  Entity
	Name    string // of the exchange or queue; for a binding what String says
	Field   string // the struct field, or Arguments["key"]; empty for the whole entity
	Problem string // what will happen
	Hint    string // what to do about it; can be empty
}

// String is one line that names the entity and the field.
func (w Warning) String() string {
	return describeFinding(w.Entity, w.Name, w.Field, w.Problem, w.Hint)
}

func describeFinding(entity Entity, name, field, problem, hint string) string {
	if entity != EntityBinding {
		name = strconv.Quote(name)
	}
	s := fmt.Sprintf("%s %s: ", entity, name)
	if field != "" {
		s += field + ": "
	}
	s += problem
	if hint != "" {
		s += "; " + hint
	}
	return s
}

// findings collects what is found about one entity.
type findings struct {
	entity Entity
	name   string
	faults *[]error
}

func (f findings) add(field, problem, hint string) {
	*f.faults = append(*f.faults, &Fault{Entity: f.entity, Name: f.name, Field: field, Problem: problem, Hint: hint})
}

// has reports whether a fault of that field was added for this entity.
func (f findings) has(field string) bool {
	for _, err := range *f.faults {
		var fault *Fault
		if errors.As(err, &fault) && fault.Entity == f.entity && fault.Name == f.name && fault.Field == field {
			return true
		}
	}
	return false
}
