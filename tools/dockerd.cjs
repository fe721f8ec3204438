// A dockerd that can keep its images in containerd's store, as Docker 29 does by default and 25 is the first to do well, for
// machines whose own is older: built from the Go module proxy, into a folder that outlives clones. Debian's containerd and runc do for it.
//
//   node tools/dockerd.cjs        builds it (minutes), and prints where it is; needs go

"use strict"

const { spawnSync } = require("node:child_process")
const { existsSync, mkdirSync, renameSync, rmSync } = require("node:fs")
const { join } = require("node:path")
const { cacheDir } = require("./lib/cache.cjs")

const DOCKER = "29.0.0"
/** The module that this Docker was released from. */
const MODULE = "github.com/moby/moby/v2"
const VERSION = "v2.0.0-beta.24"

const folder = join(cacheDir(), `dockerd-${DOCKER}-${VERSION}`)

/** Where it is, whether it is there or not. */
const program = join(folder, "dockerd")

function build() {
  if (existsSync(program)) return
  const made = `${folder}.${process.pid}`
  mkdirSync(made, { recursive: true })
  const flags = ["-trimpath", "-ldflags", `-s -w -X ${MODULE}/dockerversion.Version=${DOCKER}`]
  const { status, error } = spawnSync("go", ["install", ...flags, `${MODULE}/cmd/dockerd@${VERSION}`], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, CGO_ENABLED: "0", GOBIN: made },
  })
  if (status !== 0) {
    rmSync(made, { recursive: true })
    console.error(`dockerd cannot be built: ${error?.message ?? "go install failed"}`)
    process.exit(1)
  }
  rmSync(folder, { recursive: true, force: true })
  renameSync(made, folder)
}

module.exports = { program }

if (require.main === module) {
  build()
  console.log(program)
}
