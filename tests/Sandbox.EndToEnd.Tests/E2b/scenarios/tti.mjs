// For `scripts/bench e2b`: sandboxes through the SDK until a command has answered. MODE is sequential, staggered (200 ms apart) or burst; COUNT how many. Prints one line for each: milliseconds, or why not.
import { Sandbox } from 'e2b'

const count = Number(process.env.COUNT)
async function one() {
  const began = performance.now()
  let sandbox
  try {
    sandbox = await Sandbox.create({ timeoutMs: 600_000, requestTimeoutMs: 120_000 })
    const { stdout } = await sandbox.commands.run('node -v', { timeoutMs: 120_000 })
    const took = performance.now() - began
    console.log(/^v\d+/.test(stdout) ? `ms ${took.toFixed(3)}` : `failed: answered ${JSON.stringify(stdout)}`)
  } catch (e) {
    console.log(`failed: ${e.constructor.name} ${e.message}`)
  } finally {
    await sandbox?.kill().catch(() => {})
  }
}
if (process.env.MODE === 'sequential') {
  for (let i = 0; i < count; i++) await one()
} else {
  const running = []
  for (let i = 0; i < count; i++) {
    running.push(one())
    if (process.env.MODE === 'staggered') await new Promise((r) => setTimeout(r, 200))
  }
  await Promise.all(running)
}
