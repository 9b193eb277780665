// SPDX-License-Identifier: Apache-2.0

// Package config owns Quoin's typed settings, their defaults and validation,
// and the configuration files that are shipped beside it. It reads no state of
// the host and starts nothing.
package config
