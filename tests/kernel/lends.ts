/**
 * A broker that lends an edu device, and workers that drive it, each a process. The arguments are
 * the role, the path of the socket, and the way to the device.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { lend } from '../../src/api/lend.ts';
import { open } from '../../src/api/open.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';
import { KernelDevice } from '../../src/kernel/device.ts';

const [role, path, via] = process.argv.slice(2) as [string, string, 'group' | 'cdev'];
const files = () => readdirSync('/proc/self/fd').length;

/** A process of this program, the pieces of its output, and its end. */
class Other {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  #text = '';
  #waits: (() => void)[] = [];

  constructor(role: string) {
    this.child = spawn(process.execPath, [...process.execArgv, import.meta.filename, role, path, via], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.ended = once(this.child, 'close');
    this.child.stdout!.on('data', (text) => {
      this.#text += text;
      for (const wait of this.#waits.splice(0)) wait();
    });
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    while (!this.#text.includes('\n')) await new Promise<void>((resolve) => this.#waits.push(resolve));
    const at = this.#text.indexOf('\n');
    const line = this.#text.slice(0, at);
    this.#text = this.#text.slice(at + 1);
    return line;
  }

  /** The worker has the device until then. */
  goOn(): void {
    this.child.stdin!.end();
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** One worker after the other; each begins with a device at rest. */
async function story(): Promise<object> {
  const lines: string[] = [];
  const heard: (() => void)[] = [];
  const before = files();
  const log = {
    log: (level: string, text: string) => {
      if (level === 'debug') return;
      lines.push(`${level}: ${text.replace(/process \d+/g, 'process N')}`);
      for (const each of heard.splice(0)) each();
    },
  };
  const given = async (count: number) => {
    while (lines.filter((line) => line.includes('given it back')).length < count) await new Promise<void>((resolve) => heard.push(resolve));
  };
  const lender = lend('01:00.0', { path, via, log });
  const first = new Other('worker');
  const atFirst = await first.line();
  const second = new Other('worker');
  const refused = await second.line();
  await second.ended;
  await first.kill();
  await given(1);
  const third = new Other('worker');
  const afterKill = await third.line();
  lender[Symbol.dispose]();
  third.goOn();
  const withoutBroker = await third.line();
  await third.ended;
  return { atFirst, refused, afterKill, withoutBroker, lines, leaked: files() - before };
}

/** Drives the device until standard input ends. */
async function work(): Promise<void> {
  using dev = await open(`lent:${path}`);
  const quiet = !dev.busMaster;
  using edu = new EduDriver(dev);
  using buffer = edu.alloc(4096);
  const way = dev.device instanceof KernelDevice ? dev.device.via : 'another way';
  console.log(`${way} ${quiet ? 'quiet' : 'busy'} ${await edu.factorial(5)}`);
  process.stdin.resume();
  await once(process.stdin, 'end');
  buffer.bytes.fill(7);
  await edu.copyToDevice(buffer.iova, 64);
  buffer.bytes.fill(0);
  await edu.copyFromDevice(buffer.iova, 64);
  console.log(`${await edu.factorial(6)} ${buffer.bytes[63]}`);
}

if (role === 'story') console.log(JSON.stringify(await story()));
else await work().catch((error: unknown) => console.log(error instanceof VfioError ? `${error.code}: ${error.message}` : String(error)));
