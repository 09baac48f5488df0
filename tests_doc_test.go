package mqkit_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// documented are the packages whose identifiers docs/tests.md lists.
var documented = []string{"reconnect", "topology", "producer", "consumer", "mqtest"}

// TestEveryIdentifierHasItsTest: docs/tests.md names for each exported identifier and
// field a test, which exists and says its name, or that of what the third column gives.
func TestEveryIdentifierHasItsTest(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("docs/tests.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := parseTests(t)
	rows := map[string]bool{}
	pkg := ""
	for i, line := range strings.Split(string(content), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			pkg = name
		}
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		id, test, through := cell(cells[1]), cell(cells[2]), cell(cells[3])
		rows[pkg+"."+id] = true
		word := id[strings.LastIndex(id, ".")+1:]
		if through != "" {
			word = through[strings.LastIndexAny(through, "./")+1:] // of an identifier or a package
		}
		dir, name, _ := strings.Cut(test, ".")
		switch f := tests[dir][name]; {
		case f == nil:
			t.Errorf("docs/tests.md:%d: there is no %s in %s", i+1, name, dir)
		case through == "" && calledUnseen[word]:
		case !f.says(word, tests[dir], map[*testFunc]bool{}):
			t.Errorf("docs/tests.md:%d: %s does not say %s", i+1, test, word)
		}
	}
	for _, pkg := range documented {
		for _, id := range identifiers(t, pkg) {
			if !rows[pkg+"."+id] {
				t.Errorf("docs/tests.md has no test for %s.%s", pkg, id)
			}
			delete(rows, pkg+"."+id)
		}
	}
	for row := range rows {
		t.Errorf("docs/tests.md has %s, which is not there", row)
	}
}

// calledUnseen are methods that are called by others: errors.Is, fmt and log/slog.
var calledUnseen = map[string]bool{"Error": true, "Unwrap": true, "Is": true, "String": true, "GoString": true, "LogValue": true}

func cell(s string) string { return strings.Trim(strings.TrimSpace(s), "`") }

// identifiers lists what a package exports: functions, constants, variables, types with
// their methods and fields.
func identifiers(t *testing.T, pkg string) (list []string) {
	t.Helper()
	var files []*ast.File
	fset := token.NewFileSet()
	for _, path := range glob(t, filepath.Join(pkg, "*.go")) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, module+"/"+pkg)
	if err != nil {
		t.Fatal(err)
	}
	add := func(values []*doc.Value, funcs []*doc.Func) {
		for _, v := range values {
			list = append(list, v.Names...)
		}
		for _, f := range funcs {
			list = append(list, f.Name)
		}
	}
	add(p.Consts, p.Funcs)
	add(p.Vars, nil)
	for _, typ := range p.Types {
		list = append(list, typ.Name)
		add(typ.Consts, typ.Funcs)
		add(typ.Vars, nil)
		for _, m := range typ.Methods {
			list = append(list, typ.Name+"."+m.Name)
		}
		for _, member := range members(typ) {
			list = append(list, typ.Name+"."+member)
		}
	}
	return slices.DeleteFunc(list, func(id string) bool { return !ast.IsExported(id[strings.LastIndex(id, ".")+1:]) })
}

// members are the fields of a struct and the methods of an interface.
func members(typ *doc.Type) (names []string) {
	for _, spec := range typ.Decl.Specs {
		var fields *ast.FieldList
		switch u := spec.(*ast.TypeSpec).Type.(type) {
		case *ast.StructType:
			fields = u.Fields
		case *ast.InterfaceType:
			fields = u.Methods
		default:
			continue
		}
		for _, f := range fields.List {
			for _, n := range f.Names {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// testFunc is a function of a test with the names in it.
type testFunc struct{ names map[string]bool }

// says reports whether the function, or one of its package's tests that it names,
// names word.
func (f *testFunc) says(word string, all map[string]*testFunc, seen map[*testFunc]bool) bool {
	if f.names[word] {
		return true
	}
	seen[f] = true
	for n := range f.names {
		if g := all[n]; g != nil && !seen[g] && g.says(word, all, seen) {
			return true
		}
	}
	return false
}

// parseTests returns the functions of all tests by their folder and name. Methods of
// one name are as one.
func parseTests(t *testing.T) map[string]map[string]*testFunc {
	t.Helper()
	all := map[string]map[string]*testFunc{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if all[dir] == nil {
			all[dir] = map[string]*testFunc{}
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			of := all[dir][fn.Name.Name]
			if of == nil {
				of = &testFunc{map[string]bool{}}
				all[dir][fn.Name.Name] = of
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id != fn.Name {
					of.names[id.Name] = true
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
