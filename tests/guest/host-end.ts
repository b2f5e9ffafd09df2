/**
 * The host's end of a tap, in the network of the process that has the tap: an address, and our
 * program, which answers.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';

export class HostEnd implements Disposable {
  readonly #pid: number;
  readonly #tap: string;
  readonly #busybox: string;
  readonly #child: ChildProcess;

  /**
   * @param pid of the process that has the tap
   * @param programs `net` of this folder, built, and a busybox
   */
  constructor(pid: number, tap: string, address: string, programs: { readonly net: string; readonly busybox: string }) {
    this.#busybox = programs.busybox;
    this.#pid = pid;
    this.#tap = tap;
    this.#run('sysctl', '-q', '-w', `net.ipv6.conf.${tap}.disable_ipv6=1`);
    this.#run('ip', 'address', 'add', `${address}/24`, 'dev', tap);
    this.#run('ip', 'link', 'set', tap, 'mtu', '9000', 'up');
    this.#child = spawn('nsenter', [...this.#there, programs.net, 'serve', '5001'], { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  get #there(): string[] {
    return ['--target', `${this.#pid}`, '--net'];
  }

  #run(...command: readonly string[]): string {
    const { status, stdout, stderr, error } = spawnSync('nsenter', [...this.#there, this.#busybox, ...command], { encoding: 'utf8' });
    if (error !== undefined || status !== 0) throw new Error(`${command.join(' ')}: ${error?.message ?? stderr}`);
    return stdout;
  }

  /** Frames that the kernel has taken from the tap, and has given to it. */
  counters(): { readonly received: number; readonly sent: number } {
    const line = this.#run('cat', '/proc/net/dev')
      .split('\n')
      .find((each) => each.trim().startsWith(`${this.#tap}:`))!;
    const numbers = line.split(':')[1]!.trim().split(/\s+/).map(Number);
    return { received: numbers[1]!, sent: numbers[9]! };
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
