package sealed

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var addGolden = flag.Bool("golden.add", false, "write the vectors that testdata lacks; it changes none")

const goldenFolder = "../testdata/sealed"

// golden compares a file with what is to stand in it, and returns what stands
// there. With -golden.add it writes the file first if there is none.
func golden[T any](t *testing.T, name string, want T) (got T) {
	t.Helper()
	file := filepath.Join(goldenFolder, name)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && *addGolden {
		data = asJSON(t, want)
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (-golden.add adds what is new)", err)
	}
	if diff := cmp.Diff(string(asJSON(t, want)), string(data)); diff != "" {
		t.Errorf("%s (- want, + file):\n%s", file, diff)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return got
}

// goldenList holds entries against the files of a list: LIST-1.json, LIST-2.json …
// With -golden.add what they lack goes into the next file. It returns what stands
// in all of them.
func goldenList[T interface{ name() string }](t *testing.T, list string, want []T) (got []T) {
	t.Helper()
	missing := make(map[string]T)
	for _, w := range want {
		missing[w.name()] = w
	}
	for n := 1; ; n++ {
		file := fmt.Sprintf("%s-%d.json", list, n)
		var inFile []T
		for _, name := range goldenNames(t, file) {
			w, ok := missing[name]
			if !ok {
				t.Errorf("%s: nothing says what %q means, or it stands twice", file, name)
			}
			inFile = append(inFile, w)
			delete(missing, name)
		}
		if inFile == nil && len(missing) == 0 {
			return got
		}
		if inFile == nil {
			inFile = slices.DeleteFunc(slices.Clone(want), func(w T) bool { _, ok := missing[w.name()]; return !ok })
			clear(missing)
		}
		got = append(got, golden(t, file, inFile)...)
	}
}

// goldenNames returns the names of the entries in a file, if there is one.
func goldenNames(t *testing.T, file string) (names []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenFolder, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var entries []struct{ Name string }
	if err := errors.Join(err, json.Unmarshal(data, &entries)); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// counted returns n bytes that are easy to tell from others: first, first+1 …
func counted(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}
