// A terminal: its size, what is typed, resizing, killing, reconnecting. Then git, which is commands underneath.
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'

const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
let screen = ''
const decoder = new TextDecoder()
const onData = (data) => { screen += decoder.decode(data, { stream: true }) }
const shows = async (text) => { for (let i = 0; i < 150; i++) { if (screen.includes(text)) return; await new Promise((r) => setTimeout(r, 100)) } assert.fail(`the terminal does not show ${text}: ${screen}`) }
const type = (pid, text) => sandbox.pty.sendInput(pid, new TextEncoder().encode(text))

const terminal = await sandbox.pty.create({ cols: 90, rows: 30, onData, envs: { MARK: 'marked' }, cwd: '/tmp', timeoutMs: 0 })
await type(terminal.pid, 'echo "size $(stty size) $MARK $(pwd)"\n')
await shows('size 30 90 marked /tmp')
await sandbox.pty.resize(terminal.pid, { cols: 100, rows: 40 })
await type(terminal.pid, 'echo "now $(stty size)"\n')
await shows('now 40 100')
await type(terminal.pid, 'sleep 1000\n')
await new Promise((r) => setTimeout(r, 500))
await type(terminal.pid, '\x03')
await type(terminal.pid, 'echo "inter""rupted"\n')
await shows('interrupted')
assert.equal(await sandbox.pty.kill(terminal.pid), true)
await assert.rejects(terminal.wait())

const { git, commands } = sandbox
if ((await commands.run('command -v git || true')).stdout) {
  await git.init('/tmp/repo', { initialBranch: 'main' })
  await git.configureUser('A', 'a@example.org', { path: '/tmp/repo' })
  await sandbox.files.write('/tmp/repo/file', 'x')
  await git.add('/tmp/repo')
  await git.commit('/tmp/repo', 'first')
  assert.equal((await git.status('/tmp/repo')).isClean, true)
}
await sandbox.kill()
