/**
 * Completion scripts. Each hands the words of the line to `vfio suggest`, which knows the commands,
 * and shows what comes back: a suggestion a line, its help behind a tab. Suggestions that end in
 * `/`, `=`, `,` or `:` are parts of a word, and get no blank.
 */

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: the braces are those of the shells
/** bash cuts `unix:PATH` and addresses at their colons, so the suggestions are cut alike. */
const bash = String.raw`_vfio() {
  local line word head suggestion
  read -a line <<< "${'$'}{COMP_LINE:0:COMP_POINT}"
  [[ ${'$'}{COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && line+=("")
  word=${'$'}{line[-1]}
  head=""
  [[ $word == *[:=]* ]] && head=${'$'}{word%"${'$'}{word##*[:=]}"}
  COMPREPLY=()
  while IFS=$'\t' read -r suggestion _; do
    suggestion=${'$'}{suggestion#"$head"}
    [[ $suggestion == *[/=,:] ]] && compopt -o nospace 2>/dev/null
    [[ $suggestion == *[!A-Za-z0-9_./,:=@%+~-]* ]] && printf -v suggestion %q "$suggestion"
    COMPREPLY+=("$suggestion")
  done < <(vfio suggest -- "${'$'}{line[@]:1}" 2>/dev/null)
}
complete -F _vfio vfio`;

const zsh = String.raw`#compdef vfio
_vfio() {
  local -a whole parts whole_help parts_help
  local suggestion help
  while IFS=$'\t' read -r suggestion help; do
    if [[ $suggestion == *[/=,:] ]]; then
      parts+=("$suggestion"); parts_help+=("$suggestion${'$'}{help:+  -- $help}")
    else
      whole+=("$suggestion"); whole_help+=("$suggestion${'$'}{help:+  -- $help}")
    fi
  done < <(vfio suggest -- "${'$'}{(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)
  (( $#parts )) && compadd -Q -S '' -l -d parts_help -- "${'$'}{(@)parts}"
  (( $#whole )) && compadd -Q -l -d whole_help -- "${'$'}{(@)whole}"
}
(( $+functions[compdef] )) && compdef _vfio vfio`;

const fish = `function __vfio_suggest
  set -l words (commandline -opc) (commandline -ct)
  vfio suggest -- $words[2..-1] 2>/dev/null
end
complete -c vfio -f -a '(__vfio_suggest)'`;
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: the braces are those of the shells

export const scripts: Readonly<Record<string, string>> = { bash, zsh, fish };
