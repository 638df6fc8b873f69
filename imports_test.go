package timberline

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's own folder, where its tests run.
var root = os.DirFS(".")

// permitted says which packages of this module a folder's code may import, tests
// aside. A folder that is not listed fails the test: say here where it belongs.
var permitted = map[string][]string{
	"events/fields":        {},
	"events":               {"events/fields"},
	"bus":                  {"events"},
	"wire":                 {"events", "events/fields"},
	"wire/udp":             {"wire"},
	"wire/sealed":          {"events", "sim/planted", "wire"},
	"ingest":               {"bus", "events", "sim/planted"},
	"migrations":           {"events", "events/fields", "projections", "sim/planted"},
	"projections":          {"bus", "events", "events/fields", "sim/planted"},
	"projections/lease":    {"events"},
	"projections/relay":    {"bus", "events", "projections", "projections/lease"},
	"edge/auth":            {"events"},
	"edge":                 {"bus", "edge/auth", "events", "ingest", "sim/planted", "wire", "wire/sealed"},
	"client":               {"events", "events/fields", "sim/planted", "wire", "wire/sealed", "wire/udp"},
	"bus/local":            {"bus", "events"},
	"bus/rabbit":           {"bus", "events", "events/fields"},
	"store/dynamo":         {"events", "events/fields", "migrations", "projections", "projections/lease", "projections/relay"},
	"store/pebble":         {"events", "events/fields", "migrations", "projections", "sim/planted"},
	"store/remote":         {"events", "projections"},
	"sim":                  {anything},
	"sim/check":            {"events"},
	"sim/corpus":           {"events"},
	"sim/network":          {"events", "wire", "wire/sealed"},
	"sim/planted":          {},
	"sim/proxy":            {},
	"sim/servers":          {},
	"sim/servers/run":      {"sim/servers"},
	"cmd/bench":            {"events", "sim/corpus", "sim/proxy", "wire", "wire/sealed", "wire/udp"},
	"cmd/node":             {"bus", "edge", "events", "ingest", "projections", "projections/lease", "projections/relay"},
	"cmd/timberline":       {anything},
	"cmd/replay":           {"bus", "bus/local", "events", "projections", "store/pebble"},
	"docs/examples/perday": {"bus/local", "events", "projections", "store/dynamo", "store/pebble", "store/remote"},
	"cmd/units":            {"bus", "bus/local", "events", "ingest", "projections", "store/dynamo", "store/pebble"},

	// For the tests of others.
	"bus/bustest":                 {"bus", "events"},
	"events/logtest":              {"events"},
	"projections/storetest":       {"events", "projections"},
	"sim/script":                  {},
	"projections/lease/leasetest": {"events", "projections/lease"},
	"store/dynamo/faults":         {},
}

const anything = "…"

// forbidden are names that say nothing of what a package is for.
var forbidden = []string{"util", "utils", "common", "helpers", "misc"}

func TestImportsPointInward(t *testing.T) {
	used := make(map[string]bool)
	for file := range goFiles(t) {
		folder := path.Dir(file)
		if slices.Contains(forbidden, path.Base(folder)) {
			t.Errorf("%s: a package named %s says nothing of what it is for", file, path.Base(folder))
		}
		if strings.HasSuffix(file, "_test.go") || folder == "." {
			continue
		}
		allowed, listed := permitted[folder]
		if !listed {
			t.Errorf("%s: %s is not in the table of permitted imports", file, folder)
		}
		used[folder] = true
		for _, imported := range importsOf(t, file) {
			inside, ours := strings.CutPrefix(imported, "timberline/")
			if ours && !slices.Contains(allowed, inside) && !slices.Contains(allowed, anything) {
				t.Errorf("%s imports %s: %s may import only %v", file, inside, folder, allowed)
			}
		}
	}
	for folder := range permitted {
		if !used[folder] {
			t.Errorf("%s is in the table of permitted imports, but has no code", folder)
		}
	}
}

// goFiles yields the Go files of the module, by their paths.
func goFiles(t *testing.T) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || file == "tools" || d.Name() == "testdata"):
				return fs.SkipDir
			case !d.IsDir() && strings.HasSuffix(file, ".go") && !yield(file):
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// importsOf parses what a file imports. (A list made by the go command would come
// from the cache of tests, and hide a new import.)
func importsOf(t *testing.T, file string) (imports []string) {
	t.Helper()
	content, err := fs.ReadFile(root, file)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, content, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, name)
	}
	return imports
}
