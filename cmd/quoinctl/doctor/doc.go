// SPDX-License-Identifier: Apache-2.0

// Package doctor owns "quoinctl doctor": it looks at a node and says, finding
// by finding, what is in order and what to do about what is not. It changes
// nothing on the host, needs neither root nor a daemon (what it then cannot see
// it says), and always ends within 10 seconds. It does not decide anything about
// cgroups: the rules are those of plugins/cgroupdriver.
//
// # JSON
//
// With --json it writes one object:
//
//	schema    1; it rises when a field changes its meaning or goes away
//	version   of quoinctl
//	verdict   "ok", "warn" or "fail": the worst of the findings
//	counts    object: how many findings are "ok", "warn" and "fail"
//	findings  array, in a fixed order, of objects:
//	  id       stable name, such as "cgroup.driver"
//	  group    heading that the finding belongs under
//	  title    what was looked at, in a few words
//	  status   "ok", "warn" or "fail"
//	  message  what was found, for people
//	  fix      the one thing to do; absent when status is "ok"
//	  facts    object of what was measured, for programs; may be absent. Sizes
//	           are bytes.
//
// Findings, and keys in facts, may be added without a new schema. Some ids
// appear only where they apply: programs.runtime.NAME for each OCI runtime that
// is installed (and always for runc), cgroup.unit where systemd is booted.
package doctor
