// Reads what the other daemon wrote; trying to write there fails.
const { existsSync, readFileSync, writeFileSync } = require("node:fs")

const { storagePath } = JSON.parse(process.env.ALIEN_FILES_BINDING)
const numbers = new URL("numbers", storagePath)

try {
  writeFileSync(numbers, "0\n")
} catch (error) {
  console.log(`may not write: ${error.code}`)
}

let seen = 0
const timer = setInterval(() => {
  const count = existsSync(numbers) ? readFileSync(numbers, "utf8").split("\n").length - 1 : 0
  if (count > seen) console.log(`read ${(seen = count)}`)
}, Number(process.env.POLL_MS))

process.on("SIGTERM", () => clearInterval(timer))
