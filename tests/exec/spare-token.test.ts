/**
 * `--vf-token-file`: a program that cannot give a VF token opens SR-IOV functions with that one.
 * The programs ask Linux's questions about config space (asked-by.c, asked-by-cdev.c), which give
 * no token.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OTHER_TOKEN, PF, TOKEN, VF0 } from '../kit/sriov-rig.ts';
import { NATIVE_VF, NEITHER, tokenMachine } from '../kit/token-doors.ts';
import { VfioProcess } from '../kit/vfio-process.ts';
import { compiled, compiler, folder } from './programs.ts';

const possible = compiler !== null && spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
const machine = join(folder, 'cards.yaml');
writeFileSync(machine, tokenMachine);

function tokenFile(token: string): string {
  const path = join(folder, `token-${token}`);
  writeFileSync(path, token);
  chmodSync(path, 0o600);
  return path;
}

/** Opens functions one after the other by their groups, and says how that went. */
const script = (...functions: readonly string[]) => {
  const program = compiled('asked-by', '-w', '-Wno-error');
  const one = (name: string) => {
    const [bdf] = name.split(' ');
    const group = `$(basename $(readlink /sys/bus/pci/devices/${bdf}/iommu_group))`;
    return `${program} config ${group} '${name}' 2>&1 | sed -n '1s/.*\\(Permission denied\\|Invalid\\|pread CONFIG\\).*/\\1/p'`;
  };
  return functions.map(one).join('; ');
};
const OPENED = 'pread CONFIG';
/** Parts of the tokens. */
const SECRET = /83d8f4f2|509f-382f/;
const DENIED = 'Permission denied';

describe.skipIf(!possible)('a program that gives no token', () => {
  it('T3 T5 T6 T7 opens a VF with the one of the command, once the PF has it, and other devices as ever', async () => {
    const run = async (...options: string[]) => {
      const words = ['--', 'sh', '-c', script(VF0, PF, VF0, NATIVE_VF, NEITHER)];
      const { stdout, stderr } = await VfioProcess.run('exec', '--machine', machine, ...options, ...words);
      expect(stderr).not.toMatch(SECRET);
      return stdout.trim().split('\n');
    };
    expect(await run('--vf-token-file', tokenFile(TOKEN))).toEqual([DENIED, OPENED, OPENED, OPENED, OPENED]);
    expect(await run()).toEqual([DENIED, OPENED, DENIED, OPENED, OPENED]);
  });

  it('T4 T5 a token that the program gives goes before the one of the command', async () => {
    const words = ['--', 'sh', '-c', script(`${PF} vf_token=${OTHER_TOKEN}`, VF0, `${VF0} vf_token=${OTHER_TOKEN}`)];
    const { stdout } = await VfioProcess.run('exec', '--machine', machine, '--vf-token-file', tokenFile(TOKEN), ...words);
    expect(stdout.trim().split('\n')).toEqual([OPENED, DENIED, OPENED]);
  });

  it('T3 T5 of a machine that another process serves, too; the trace has no token', async () => {
    const directory = join(folder, 'served');
    await using server = await VfioProcess.serve(machine, directory, '--threads', '1');
    const run = (file: string | null, ...functions: string[]) =>
      VfioProcess.run(
        'exec',
        directory,
        '--trace',
        ...(file === null ? [] : ['--vf-token-file', file]),
        '--',
        'sh',
        '-c',
        script(...functions),
      );
    const first = await run(tokenFile(TOKEN), PF, VF0);
    expect(first.stdout.trim().split('\n')).toEqual([OPENED, OPENED]);
    const others = [await run(null, VF0), await run(tokenFile(OTHER_TOKEN), VF0), await run(tokenFile(TOKEN), VF0)];
    expect(others.map(({ stdout }) => stdout.trim())).toEqual([DENIED, DENIED, OPENED]);
    for (const { stderr } of [first, ...others, server]) expect(stderr).not.toMatch(SECRET);
    rmSync(directory, { recursive: true, force: true });
  });
});
