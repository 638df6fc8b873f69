package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A process is what Linux says of one.
type process int

// ticksPerSecond is what CPU times in /proc are counted in: 100 on every Linux that
// Go runs on.
const ticksPerSecond = 100

// cpu returns the CPU time that the process has used, in seconds.
func (p process) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // a name may have spaces
	cells := strings.Fields(rest)
	const user, system = 11, 12
	if len(cells) <= system {
		return 0, fmt.Errorf("/proc/%d/stat has %d cells", p, len(cells))
	}
	u, err := strconv.ParseFloat(cells[user], 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseFloat(cells[system], 64)
	return (u + s) / ticksPerSecond, err
}

// memory returns what is in RAM of the process, now or at the most, in bytes.
func (p process) memory(name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", p, name)
}
