// Starts the program at ZHENJIN_BIN with the model file ZHENJIN_TEST_MODEL on a free port, with a home of its own.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export async function startServer(...options) {
  const model = process.env.ZHENJIN_TEST_MODEL;
  const home = await mkdtemp(join(tmpdir(), "zhenjin-clients-"));
  const command = ["serve", model, "--home", home, "--addr", "127.0.0.1:0", ...options];
  const child = spawn(process.env.ZHENJIN_BIN, command, { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (text) => { log += text; });
  const ended = new Promise((resolve) => child.on("close", resolve));
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = line.match(/listening on (http:\/\/\S+)/);
      if (found) resolve(found[1]);
    });
    ended.then(() => reject(new Error(`the server did not start:\n${log}`)));
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const code = await ended;
    await rm(home, { recursive: true, force: true });
    return code;
  };
  return { url, stop };
}
