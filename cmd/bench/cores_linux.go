package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// StartOn starts a process on the first so many cores of those that this one may use,
// and keeps this one off them: clients then leave the server its cores. With 0 it
// starts the process as usual.
func StartOn(cores int, cmd *exec.Cmd) error {
	if cores == 0 {
		return cmd.Start()
	}
	mine, theirs, err := split(cores)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a process inherits the cores of the thread that starts it
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &theirs); err != nil {
		return fmt.Errorf("give the server %d cores: %w", cores, err)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(mine.Count())
	return pin(&mine)
}

// split divides the cores.
func split(cores int) (mine, theirs unix.CPUSet, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return mine, theirs, fmt.Errorf("cores of this process: %w", err)
	}
	if cores >= all.Count() {
		return mine, theirs, fmt.Errorf("%d cores for the server: want fewer than the %d that there are", cores, all.Count())
	}
	for cpu, left := 0, all.Count(); left > 0; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if left--; theirs.Count() < cores {
			theirs.Set(cpu)
		} else {
			mine.Set(cpu)
		}
	}
	return mine, theirs, nil
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
