// The programs that the walk needs, started and stopped by their process id.
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { BIN } = process.env;

export const folder = mkdtempSync(join(tmpdir(), "assay-test-console."));
const running = [];

export async function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export function start(name, program, args, env = {}) {
  const log = openSync(join(folder, `${name}.log`), "a");
  const child = spawn(join(BIN, program), args, { env: { ...process.env, ...env }, stdio: ["ignore", log, log] });
  running.push(child);
  child.name = name;
  return child;
}

export function run(program, args, env = {}) {
  const done = spawnSync(join(BIN, program), args, { env: { ...process.env, ...env }, encoding: "utf8", maxBuffer: 1 << 28 });
  if (done.error) throw done.error;
  return done;
}

export function mustRun(program, args, env = {}) {
  const done = run(program, args, env);
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${done.status}: ${done.stderr}`);
  return done.stdout;
}

export function ended(child) {
  return new Promise((resolve) => (child.exitCode === null ? child.on("exit", resolve) : resolve(child.exitCode)));
}

export async function untilReady(url, headers = {}) {
  for (let tries = 0; tries < 240; tries += 1) {
    try {
      if ((await fetch(url, { headers })).ok) return;
    } catch {
      // Not yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  throw new Error(`${url} is not ready`);
}

// A user as the console's file has them.
export function user(name, role) {
  const token = randomBytes(16).toString("hex");
  const digest = createHash("sha256").update(token).digest("hex");
  return { name, role, token, line: `${name} ${role} ${digest}` };
}

export function log(name) {
  return readFileSync(join(folder, `${name}.log`), "utf8");
}

export function write(name, text) {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

export async function stop() {
  for (const child of running) if (child.exitCode === null) child.kill("SIGTERM");
  await Promise.all(running.map(ended));
}

export function forget() {
  rmSync(folder, { recursive: true, force: true });
}
