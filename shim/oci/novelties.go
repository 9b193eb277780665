// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// A novelty is something a spec may use that came after 1.0.0.
type novelty struct {
	// path of the field; "[]" stands for every element of a list.
	path string
	// values makes it about some values of the field. Nil means any.
	values []string
	// since is the version of the OCI spec it came with.
	since string
	// crun is the release of crun that honours it, though crun claims 1.0.0 for
	// ever. Empty: no crun that looks at the version (they end with 1.14.2) does,
	// or that is not certain.
	crun string
}

// novelties are from runtime-spec's ChangeLog and schema, up to 1.3.0; crun's
// releases from its NEWS and history.
var novelties = []novelty{
	{path: "hooks.createRuntime", since: "1.0.2", crun: "0.12"},
	{path: "hooks.createContainer", since: "1.0.2", crun: "0.12"},
	{path: "hooks.startContainer", since: "1.0.2", crun: "0.12"},
	{path: "linux.personality", since: "1.0.2", crun: "0.11"},
	{path: "linux.seccomp.flags", since: "1.0.2", crun: "0.9"},
	{path: "linux.seccomp.defaultAction", values: []string{"SCMP_ACT_LOG"}, since: "1.0.2", crun: "0.15"},
	{path: "linux.seccomp.syscalls[].action", values: []string{"SCMP_ACT_LOG"}, since: "1.0.2", crun: "0.15"},
	{path: "linux.resources.memory.useHierarchy", since: "1.0.2", crun: "1.0"},
	{path: "linux.intelRdt", since: "1.0.2", crun: "1.10"},

	{path: "domainname", since: "1.1.0", crun: "1.7"},
	{path: "mounts[].uidMappings", since: "1.1.0", crun: "1.9"},
	{path: "mounts[].gidMappings", since: "1.1.0", crun: "1.9"},
	{path: "process.scheduler", since: "1.1.0", crun: "1.8.5"},
	{path: "process.ioPriority", since: "1.1.0", crun: "1.8.6"},
	{path: "linux.timeOffsets", since: "1.1.0", crun: "1.8.4"},
	{path: "linux.namespaces[].type", values: []string{"time"}, since: "1.1.0", crun: "1.8.4"},
	{path: "linux.resources.unified", since: "1.1.0", crun: "0.15"},
	{path: "linux.resources.cpu.idle", since: "1.1.0", crun: "1.5"},
	{path: "linux.resources.cpu.burst", since: "1.1.0", crun: "1.11"},
	{path: "linux.resources.memory.checkBeforeUpdate", since: "1.1.0", crun: "1.7"},
	{path: "linux.seccomp.defaultErrnoRet", since: "1.1.0", crun: "0.19"},
	{path: "linux.seccomp.syscalls[].errnoRet", since: "1.1.0", crun: "0.14"},
	{path: "linux.seccomp.listenerPath", since: "1.1.0", crun: "0.19"},
	{path: "linux.seccomp.listenerMetadata", since: "1.1.0", crun: "0.19"},
	{path: "linux.seccomp.flags[]", values: []string{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}, since: "1.1.0", crun: "1.6"},
	{path: "linux.seccomp.architectures[]", values: []string{"SCMP_ARCH_RISCV64"}, since: "1.1.0", crun: "1.0"},
	{path: "linux.seccomp.defaultAction", values: newActions, since: "1.1.0", crun: "0.19"},
	{path: "linux.seccomp.syscalls[].action", values: newActions, since: "1.1.0", crun: "0.19"},
	{path: "linux.intelRdt.enableCMT", since: "1.1.0"},
	{path: "linux.intelRdt.enableMBM", since: "1.1.0"},
	{path: "zos", since: "1.1.0"},

	{path: "mounts[].options[]", values: []string{"idmap"}, since: "1.2.0", crun: "1.4"},
	{path: "mounts[].options[]", values: []string{"ridmap"}, since: "1.2.0", crun: "1.9"},

	{path: "process.execCPUAffinity", since: "1.2.1"},

	{path: "linux.intelRdt.schemata", since: "1.3.0"},
	{path: "linux.intelRdt.enableMonitoring", since: "1.3.0"},
	{path: "linux.netDevices", since: "1.3.0"},
	{path: "linux.memoryPolicy", since: "1.3.0"},
	{path: "vm.hwConfig", since: "1.3.0"},
	{path: "freebsd", since: "1.3.0"},
}

var newActions = []string{"SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_NOTIFY"}

// firstNovelty finds the first thing in the spec that a runtime of that level does
// not know; field is empty when there is none.
func firstNovelty(data []byte, l level) (field, since string, err error) {
	var doc any
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", "", fmt.Errorf("malformed: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	for _, n := range novelties {
		if n.knownTo(l) {
			continue
		}
		if used, ok := n.usedIn(doc, strings.Split(n.path, ".")); ok {
			if used != "" {
				return fmt.Sprintf("%s %s", n.path, used), n.since, nil
			}
			return n.path, n.since, nil
		}
	}
	return "", "", nil
}

func (n novelty) knownTo(l level) bool {
	if since, ok := parseNumbers(n.since); ok && !l.Max.less(since) {
		return true
	}
	first, ok := parseNumbers(n.crun)
	return ok && l.Crun && !l.Release.less(first)
}

// usedIn follows the path. A value that says nothing (null, false, empty) is not
// a use. It returns the value when the novelty is about values.
func (n novelty) usedIn(doc any, path []string) (string, bool) {
	if len(path) == 0 {
		if n.values == nil {
			return "", saysSomething(doc)
		}
		s, ok := doc.(string)
		return fmt.Sprintf("%q", s), ok && slices.Contains(n.values, s)
	}
	object, ok := doc.(map[string]any)
	if !ok {
		return "", false
	}
	name, isList := strings.CutSuffix(path[0], "[]")
	if !isList {
		return n.usedIn(object[name], path[1:])
	}
	list, _ := object[name].([]any)
	for _, element := range list {
		if used, ok := n.usedIn(element, path[1:]); ok {
			return used, true
		}
	}
	return "", false
}

func saysSomething(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}
