/**
 * Debian packages for use from a folder: nothing is installed, and the machine's own packages and
 * lists stay as they are.
 *
 * apt does the work with a state of its own that knows no installed package. So apt names
 * everything that a program needs, down to the C library, and checks the signature of the lists and
 * the hash of every file. The machine's apt configuration says where to ask (sources, proxies,
 * keys).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Unavailable } from './unavailable.ts';

/** The Debian release whose backports have a QEMU with `vfio-user-pci` (10.1 or newer). */
const RELEASE = 'trixie';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export type Suite = 'stable' | 'backports';

export class DebianPackages {
  readonly #configFile: string;
  readonly #folder: string;
  #isUpdated = false;

  /** @param folder for apt's lists and downloads */
  constructor(folder: string) {
    this.#folder = folder;
    this.#configFile = join(folder, 'apt.conf');
  }

  /**
   * The packages `names` and all their dependencies, unpacked to `into`. Does nothing when `into`
   * is there already: a folder that is there is whole.
   *
   * @param only which of them to fetch; by package name
   * @throws Unavailable when apt cannot get them
   */
  unpack(into: string, names: readonly string[], suite: Suite, only: (name: string) => boolean = () => true): void {
    if (existsSync(into)) return;
    this.#update();
    const target = suite === 'backports' ? `${RELEASE}-backports` : RELEASE;
    const closure = this.#apt(['install', '--print-uris', '-t', target, ...names])
      .split('\n')
      .map((line) => /^'\S+' (([^_]+)_\S+\.deb) /.exec(line))
      .filter((match) => match !== null && only(match[2]!))
      .map((match) => ({ file: match![1]!, name: match![2]! }));
    const folder = mkdtempSync(join(this.#folder, 'unpack-'));
    try {
      const [packages, root] = [join(folder, 'packages'), join(folder, 'root')];
      mkdirSync(packages);
      this.#apt(['download', '-t', target, ...closure.map((p) => p.name)], packages);
      // Debian's directories are links into /usr; packages may name either.
      for (const directory of ['bin', 'sbin', 'lib', 'lib64']) {
        mkdirSync(join(root, 'usr', directory), { recursive: true });
        run('ln', ['-s', `usr/${directory}`, join(root, directory)]);
      }
      for (const { file } of closure) {
        const tar = run('dpkg-deb', ['--fsys-tarfile', join(packages, file)]);
        run('tar', ['-x', '-C', root, '--keep-directory-symlink', '--no-same-owner'], { input: tar });
      }
      writeFileSync(join(root, 'packages.txt'), `${closure.map((p) => p.file).join('\n')}\n`);
      if (!existsSync(into)) renameSync(root, into);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  #update(): void {
    if (this.#isUpdated) return;
    if (!existsSync(KEYRING)) throw new Unavailable(`there is no ${KEYRING}, which signs the packages`);
    const mirror = debianMirror();
    for (const directory of ['lists/partial', 'cache/archives/partial', 'etc'])
      mkdirSync(join(this.#folder, directory), { recursive: true });
    const at = (name: string) => join(this.#folder, name);
    const suites = [RELEASE, `${RELEASE}-backports`];
    writeFileSync(at('etc/sources.list'), suites.map((suite) => `deb [signed-by=${KEYRING}] ${mirror} ${suite} main\n`).join(''));
    writeFileSync(at('status'), '');
    // apt reads this after the machine's own configuration: proxies and sign-ins stay, hooks go.
    writeFileSync(
      this.#configFile,
      `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "${at('')}";
Dir::State::lists "${at('lists')}";
Dir::State::status "${at('status')}";
Dir::Cache "${at('cache')}";
Dir::Cache::archives "${at('cache/archives')}";
Dir::Etc::sourcelist "${at('etc/sources.list')}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Retries "2";
APT::Update::Error-Mode "any";
${process.getuid?.() === 0 ? 'APT::Sandbox::User "root";' : ''}
`,
    );
    this.#apt(['update']);
    this.#isUpdated = true;
  }

  #apt(args: readonly string[], cwd?: string): string {
    return run('apt-get', ['-qq', '-c', this.#configFile, ...args], { cwd }).toString();
  }
}

/** The package archive in this machine's apt configuration. */
function debianMirror(): string {
  const repositories = run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'])
    .toString()
    .split('\n')
    .filter((uri) => /\/debian\/?$/.test(uri));
  const mirror = repositories[0];
  if (mirror === undefined) throw new Unavailable('apt on this machine has no Debian archive among its sources');
  return mirror;
}

/** The output of a program. When a program fails the packages are not available. */
function run(program: string, args: readonly string[], options: { cwd?: string | undefined; input?: Buffer } = {}): Buffer {
  const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
  const result = spawnSync(program, args, { env, maxBuffer: 2 ** 30, timeout: 600_000, ...options });
  if (result.error) throw new Unavailable(`${program}: ${result.error.message}`);
  if (result.status !== 0) {
    const said = result.stderr.toString().trim().split('\n').slice(-3).join(' / ');
    throw new Unavailable(`${program} ${args.find((a) => !a.startsWith('-') && !a.startsWith('/')) ?? ''} failed: ${said}`);
  }
  return result.stdout;
}
