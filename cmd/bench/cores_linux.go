package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Cores are those of the processes that are measured, and those of this one. The zero
// value leaves all to all.
type Cores struct{ mine, theirs unix.CPUSet }

// Start starts a process on its cores, and keeps this one off them.
func (c *Cores) Start(cmd *exec.Cmd) error {
	if c.theirs.Count() == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread() // a process inherits the cores of the thread that starts it
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &c.theirs); err != nil {
		return fmt.Errorf("give %s its cores: %w", filepath.Base(cmd.Path), err)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(c.mine.Count())
	return pin(&c.mine)
}

// SplitCores gives the first n of the cores that this process may use to the processes
// that are measured; with 0 all share all.
func SplitCores(n int) (c Cores, err error) {
	if n == 0 {
		return c, nil
	}
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return c, fmt.Errorf("cores of this process: %w", err)
	}
	if n >= all.Count() {
		return c, fmt.Errorf("%d cores for the server: want fewer than the %d that there are", n, all.Count())
	}
	for cpu, left := 0, all.Count(); left > 0; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if left--; c.theirs.Count() < n {
			c.theirs.Set(cpu)
		} else {
			c.mine.Set(cpu)
		}
	}
	return c, nil
}

// pin keeps every thread of this process on cores; later ones inherit them.
func pin(cores *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("threads of this process: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("threads of this process: %w", err)
		}
		unix.SchedSetaffinity(id, cores) // one that has ended meanwhile needs none
	}
	return nil
}
