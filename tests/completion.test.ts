/** The completion scripts, run by their shells. A shell that is not installed is skipped. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scripts } from '../src/cli/completion/shells.ts';

const installed = (shell: string) => spawnSync(shell, ['-c', 'true']).status === 0;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  writeFileSync(join(folder, 'vfio'), `#!/bin/sh\nexec '${process.execPath}' '${join(import.meta.dirname, '../bin/vfio.js')}' "$@"\n`);
  chmodSync(join(folder, 'vfio'), 0o755);
  writeFileSync(join(folder, 'my card.ts'), '');
  for (const name of ['0000:00:04.0', '0000:01:00.0', '0000:01:00.1']) writeFileSync(join(folder, `${name}.sock`), '');
});
afterAll(() => rmSync(folder, { recursive: true }));

function run(shell: string, script: string, ...args: string[]): string[] {
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, HOME: folder };
  const { stdout, stderr } = spawnSync(shell, ['-c', `${scripts[shell]}\n${script}`, ...args], { encoding: 'utf8', cwd: folder, env });
  expect(stderr).toBe('');
  return stdout.split('\n').filter((line) => line !== '');
}

describe.skipIf(!installed('bash'))('bash', () => {
  const offered = (line: string) => run('bash', `COMP_LINE=$1 COMP_POINT=\${#1}; _vfio; printf '%s\\n' "\${COMPREPLY[@]}"`, 'bash', line);

  it('offers commands and values', () => {
    expect(offered('vfio ex')).toEqual(['exec', 'explain', 'explain-write']);
    expect(offered('vfio nvme bench sim:nvme --rw randr')).toEqual(['randread', 'randrw']);
  });

  it('cuts suggestions at colons and equals signs, as it cuts the words', () => {
    expect(offered('vfio admin . unbind 0000:01:')).toEqual(['00.0', '00.1']);
    expect(offered('vfio nvme bench sim:nvme --rw=randr')).toEqual(['randread', 'randrw']);
  });

  it('quotes a name with a blank', () => {
    expect(offered('vfio serve my')).toEqual(['my\\ card.ts']);
  });
});

describe.skipIf(!installed('fish'))('fish', () => {
  const offered = (line: string) => run('fish', 'complete -C "$argv[1]"', line).map((each) => each.split('\t')[0]);

  it('offers commands and values', () => {
    expect(offered('vfio ex').sort()).toEqual(['exec', 'explain', 'explain-write']);
    expect(offered('vfio admin . unbind 0000:01:').sort()).toEqual(['0000:01:00.0', '0000:01:00.1']);
  });
});

describe.skipIf(!installed('zsh'))('zsh', () => {
  /** compadd stands for zsh's own, which works in an interactive shell alone. */
  const offered = (line: string) => {
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: the braces are those of zsh
    const script = [
      'compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@" }',
      'words=(${(s: :)1} ${${(M)1:#* }:+""}); CURRENT=$#words PREFIX=$words[-1]; _vfio',
    ].join('\n');
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: the braces are those of zsh
    return run('zsh', script, 'zsh', line);
  };

  it('offers commands and values', () => {
    expect(offered('vfio ex').sort()).toEqual(['exec', 'explain', 'explain-write']);
    expect(offered('vfio admin . unbind 0000:01:').sort()).toEqual(['0000:01:00.0', '0000:01:00.1']);
  });
});
