// Greets once, then waits to be told to stop.
console.log(`${process.env.GREETING} from ${process.env.ALIEN_DEPLOYMENT_ID}`)
const timer = setInterval(() => {}, 60_000)
process.on("SIGTERM", () => {
  console.log("bye")
  clearInterval(timer)
})
