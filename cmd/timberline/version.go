package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"timberline/store/pebble"
	"timberline/wire"
)

var versionCommand = &command{
	name:    "version",
	summary: "say which version this is",
	example: "timberline --version",
	run: func(_ context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		v := currentVersion()
		if *asJSON {
			return c.printJSON(v)
		}
		return c.print("timberline %s (%s, protocol %d, data format %d)\n", v.Version, v.Go, v.Protocol, v.Data)
	},
}

// A versionInfo says what a program is made of.
type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Protocol uint32 `json:"protocol"`
	Data     uint32 `json:"data_format"`
}

func currentVersion() versionInfo {
	v := versionInfo{Version: "(devel)", Go: runtime.Version(), Protocol: wire.Version, Data: pebble.DataFormat}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	return v
}
