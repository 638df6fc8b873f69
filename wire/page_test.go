package wire

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"timberline/events"
)

// page returns docs/protocol.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rows returns the cells of the tables in a text, without the heads.
func rows(text string) (all [][]string) {
	head := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			head = true
		case strings.HasPrefix(line, "|---"):
			head = false
		case !head:
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			all = append(all, cells)
		}
	}
	return all
}

func TestPageListsEveryFieldOfEveryFrame(t *testing.T) {
	file := schema(t)
	sections := make(map[string]string)
	for _, section := range strings.Split(page(t), "\n#### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		sections[name] = text
	}
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		name := string(m.Name())
		if name == "Packet" || name == "Frame" {
			continue // the page draws these
		}
		var want, got []string
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			want = append(want, fmt.Sprintf("%d `%s` %s", f.Number(), f.Name(), typeOnPage(f)))
		}
		for _, row := range rows(sections[name]) {
			got = append(got, strings.Join(row[:3], " "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (- schema, + page):\n%s", name, diff)
		}
		if f := file.Messages().ByName("Frame").Fields().ByName(protoreflect.Name(strings.ToLower(name))); f != nil {
			if kind := fmt.Sprintf(" Kind %d. ", f.Number()); !strings.Contains(sections[name], kind) {
				t.Errorf("the page does not say of %s:%s", name, kind)
			}
		}
		delete(sections, name)
	}
	for name := range sections {
		t.Errorf("the page has a %q, the schema has not", name)
	}
}

// typeOnPage writes a field's type as the page does.
func typeOnPage(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.Message() != nil:
		kind = string(f.Message().Name())
	case f.Enum() != nil:
		kind = string(f.Enum().Name())
	case kind == "bytes" && ids[f.Name()]:
		kind = "id"
	}
	if f.IsList() {
		kind = "list of " + kind
	}
	return kind
}

func TestPageListsEveryReasonStatusAndKind(t *testing.T) {
	file := schema(t)
	for i := range file.Enums().Len() {
		enum := file.Enums().Get(i)
		head := fmt.Sprintf("| no. | %s | meaning |", enum.Name())
		_, table, _ := strings.Cut(page(t), head)
		table, _, _ = strings.Cut(head+table, "\n\n")
		var want, got []string
		for i, name := range valueNames(enum)[1:] {
			want = append(want, fmt.Sprintf("%d `%s`", i+1, name))
		}
		for _, row := range rows(table) {
			got = append(got, strings.Join(row[:2], " "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (- schema, + page):\n%s", enum.Name(), diff)
		}
	}
}

func TestPageStatesTheLimitsOfTheCode(t *testing.T) {
	limits := make(map[string]string)
	_, text, _ := strings.Cut(page(t), "\n## 10. Limits\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for _, row := range rows(text) {
		limits[row[0]] = strings.ReplaceAll(row[1], ",", "")
	}
	for what, want := range map[string]string{
		"packet":                           fmt.Sprint(MaxPacket, " bytes"),
		"body":                             fmt.Sprintf("`max_body`: %d bytes unless configured at most %d", events.DefaultMaxBody, events.HardMaxBody),
		"`settle` of a login":              fmt.Sprint(MaxSettle),
		"`ranges` of a sync":               fmt.Sprint(MaxRanges),
		"fragments of a send":              fmt.Sprint(MaxFragments),
		"refusals in an ack, and standing": fmt.Sprint(MaxRefusals),
		"parts of an entry that the Go client takes": fmt.Sprint(maxParts),
	} {
		if limits[what] != want {
			t.Errorf("limit of %s: the page says %q, the code %q", what, limits[what], want)
		}
	}
}

func TestPacketOnThePageIsTheSameInBothCodecs(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```hex\n(.*?)```.*?```json packet\n(.*?)```").FindStringSubmatch(page(t))
	if blocks == nil {
		t.Fatal("the page shows no packet")
	}
	var digits strings.Builder
	for line := range strings.Lines(blocks[1]) {
		bytes, _, _ := strings.Cut(line, "  ") // what follows is for people
		digits.WriteString(strings.ReplaceAll(bytes, " ", ""))
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	fromBytes, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := Decode([]byte(blocks[2]))
	if err != nil {
		t.Fatal(err)
	}
	fromJSON.Codec = fromBytes.Codec
	if diff := cmp.Diff(fromJSON, fromBytes); diff != "" || len(fromBytes.Frames) == 0 {
		t.Errorf("packet of %d frames (- JSON, + bytes):\n%s", len(fromBytes.Frames), diff)
	}
}
