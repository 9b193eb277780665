// SPDX-License-Identifier: Apache-2.0

package config

// RuntimeType is the name under which containerd clients ask for Quoin's shim;
// containerd derives the binary's name from it.
const RuntimeType = "io.containerd.quoin.v1"

// ShimBinary is the name of the shim's executable.
const ShimBinary = "containerd-shim-quoin-v1"

// BundlesDir is where containerd keeps the bundles of tasks, by namespace and id,
// below its state directory: that of the plugin that runs them.
const BundlesDir = "io.containerd.runtime.v2.task"

// CgroupDriverPluginType and CgroupDriverPluginID name the plugin that decides on
// the node's cgroup driver, for plugins that ask it.
const (
	CgroupDriverPluginType = "io.quoin.node.v1"
	CgroupDriverPluginID   = "cgroupdriver"
)
