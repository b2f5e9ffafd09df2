/**
 * The folder by which a booted Linux and this process exchange files: the script of its first
 * process, and the exit status of the command. The guest mounts it as /dev/vfio-ts, since /dev is
 * the guest's own, whatever its root is.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { ClaimedFolder } from '../../sys/claimed-folder.ts';
import { shellQuoted } from '../shell-quoted.ts';

/** Where the guest sees the folder. */
const MOUNTED = '/dev/vfio-ts';

/** The work of a booted Linux. */
export interface GuestWork {
  /** The program and its arguments; empty: a shell. */
  readonly command: readonly string[];
  /** Where it runs; a folder of the guest's root. */
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  /** The root is mounted for writing: what the command changes, changes there. */
  readonly writable: boolean;
  /** Folders of the host that the guest may write all the same, at their own paths. */
  readonly shared: readonly string[];
  /** The console is a terminal: the command has job control, and the terminal's size. */
  readonly terminal: { readonly columns: number; readonly rows: number } | null;
}

/** See above. Disposed: it is removed; of a process that was killed, by the next one. */
export class BootFolder implements Disposable {
  readonly #folder: ClaimedFolder;

  /** @throws VfioError EACCES, ENOSPC, EROFS; EINVAL for a place whose path a kernel cannot take */
  constructor(work: GuestWork) {
    using undo = new Cleanup();
    this.#folder = undo.use(ClaimedFolder.make('vfio-linux'));
    checkPath(this.path);
    writeFileSync(this.#folder.place('/init'), initScript(work), { mode: 0o600 });
    writeFileSync(this.#folder.place('/work'), workScript(work), { mode: 0o600 });
    undo.move();
  }

  get path(): string {
    return this.#folder.path;
  }

  /** Words of the kernel's command line: its first process. They are the last ones. */
  get kernelWords(): readonly string[] {
    // In the guest of an ordinary user, no file belongs to root: mount(8), which
    // has the set-user-ID bit, would run as another user.
    const plain = process.geteuid!() === 0 ? '' : `command -v setpriv >/dev/null && n='setpriv --no-new-privs'; `;
    return [
      'init=/bin/sh',
      '--',
      '-c',
      `"${plain}mkdir ${MOUNTED} && $n mount -t hostfs none ${MOUNTED} -o ${this.path} && exec $n /bin/sh ${MOUNTED}/init"`,
    ];
  }

  /** Of the command; null while it has not ended. */
  get status(): number | null {
    let text: string;
    try {
      text = readFileSync(this.#folder.place('/status'), 'latin1');
    } catch {
      return null;
    }
    return /^\d{1,3}\n$/.test(text) ? Number(text) : null;
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

/**
 * A path on a kernel's command line, or in the options of a mount: neither has a way to quote.
 * @throws VfioError EINVAL
 */
export function checkPath(path: string): string {
  if (/^\/[\w@%+=:./-]*$/.test(path)) return path;
  throw new VfioError('EINVAL', `the path ${path} cannot be given to a kernel`, {
    fix: 'Use letters, digits and @ % + = : . / - _ alone.',
  });
}

/**
 * The script of the guest's first process: it finds file systems, and a root that can be written.
 * Without an overlay, /tmp is a file system of its own, which hides that of the root.
 */
function initScript({ directory, writable }: GuestWork): string {
  const at = shellQuoted(directory);
  return `# The first process of a Linux that vfio linux has booted.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
${
  writable
    ? ''
    : `if grep -qw overlay /proc/filesystems; then
  mkdir /run/changes /run/work /run/root
  if mount -t overlay -o lowerdir=/,upperdir=/run/changes,workdir=/run/work root /run/root; then
    for place in dev proc sys; do mount --move /$place /run/root/$place; done
    exec chroot /run/root /bin/sh ${MOUNTED}/work
  fi
fi
mount -t tmpfs -o mode=1777 tmp /tmp
case ${at} in /tmp/*) mkdir -p ${at}; mount -t hostfs -o ${at} none ${at}; mount -o remount,ro ${at} ;; esac
`
}exec /bin/sh ${MOUNTED}/work
`;
}

/** The script that runs the command, keeps its status and switches off. */
function workScript({ command, directory, environment, shared, terminal }: GuestWork): string {
  const words = command.length === 0 ? [environment.SHELL ?? '/bin/sh'] : command;
  const run = `sh -c ${shellQuoted(`cd ${shellQuoted(directory)} 2>/dev/null || cd /; exec ${words.map(shellQuoted).join(' ')}`)}`;
  return `mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 pts /dev/pts
for place in /dev/shm /run; do mount -t tmpfs -o mode=1777 tmp $place; done
${shared.map((each) => `mkdir -p ${each}; mount -t hostfs -o ${each} none ${each}\n`).join('')}${Object.entries(environment)
  .map(([name, value]) => `export ${name}=${shellQuoted(value)}\n`)
  .join('')}${
  terminal === null
    ? `for tty in tty0 tty1; do stty -F /dev/$tty -opost -echo 2>/dev/null; done
${run} </dev/null >/dev/tty0 2>/dev/tty1`
    : `stty -F /dev/tty0 rows ${terminal.rows} cols ${terminal.columns} 2>/dev/null
setsid -w -c ${run} </dev/tty0 >/dev/tty0 2>&1`
}
echo $? >${MOUNTED}/status.new && mv ${MOUNTED}/status.new ${MOUNTED}/status
kill -KILL -1
umount -a -t noproc,nosysfs,nodevtmpfs,nodevpts,nohostfs,notmpfs,nooverlay
sync
echo 0 2>/dev/null >/proc/sys/kernel/printk
for way in 'poweroff -f' 'halt -f' 'busybox poweroff -f'; do $way >/dev/null 2>&1; done
# The root has no such program.
[ -w /proc/sysrq-trigger ] && echo o >/proc/sysrq-trigger && sleep 10
`;
}
