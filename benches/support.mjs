// What the benchmarks share: a folder of their own, an image with a program whose start can be timed, and numbers.

import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Layout } from "../tools/lib/oci.mjs"

export const root = join(dirname(fileURLToPath(import.meta.url)), "..")

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

/** `median (min–max)`, in the numbers' own unit. */
export function spread(numbers, digits = 2) {
  const [least, middle, most] = [Math.min(...numbers), median(numbers), Math.max(...numbers)].map((n) => n.toFixed(digits))
  return `${middle} (${least}–${most}, ${numbers.length} runs)`
}

/** The timed program as a static binary. */
export function clock() {
  const source = join(root, "benches", "clock.rs")
  const program = join(root, "target", "benches", "clock")
  if (existsSync(program) && statSync(program).mtimeMs >= statSync(source).mtimeMs) return program
  mkdirSync(dirname(program), { recursive: true })
  const args = ["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "--edition", "2024", "-o", program, source]
  const { status, stderr } = spawnSync("rustc", args, { encoding: "utf8" })
  if (status !== 0) throw new Error(`rustc: ${stderr}`)
  chmodSync(program, 0o755)
  return program
}

/** A state directory and an image of the timed program; the same image in a Docker engine where one answers. */
export async function workspace() {
  const dir = mkdtempSync(join(tmpdir(), "alien-bench-"))
  const layout = new Layout(join(dir, "image"))
  const layer = await layout.layer([{ path: "clock", from: clock(), mode: 0o755 }], { compression: "none" })
  layout.image("v1", [layer], { Entrypoint: ["/clock"] })
  const space = { dir, stateDir: join(dir, "state"), image: `oci:${join(dir, "image")}:v1`, layout, layer }
  const tag = "alien-bench:v1"
  const copied = spawnSync("skopeo", ["copy", "--quiet", space.image, `docker-daemon:${tag}`])
  if (copied.status === 0) space.dockerImage = tag
  return space
}

export async function closeWorkspace(space) {
  if (space.dockerImage !== undefined) spawnSync("docker", ["rmi", "-f", space.dockerImage])
  rmSync(space.dir, { recursive: true, force: true })
}
