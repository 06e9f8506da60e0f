// `pyro completion SHELL`: the scripts. They know nothing of pyro: at each TAB they ask `pyro __complete` for lines of
// a word and, behind a tab, what it means.
import { installation } from "../host/installation.ts";
import type { Context } from "./context.ts";
import { STDOUT, writeAll, writeJson } from "./output.ts";
import type { Shell } from "./program.ts";

/** Shells take bash's words apart at : and =, and replace only what stands behind the last of them. */
const BASH = `# bash completion for pyro
_pyro() {
  local program line=$COMP_LINE word words=() index
  program=$(type -P pyro) || program=@PYRO@
  # The line's own words again: bash takes them apart at its word breaks, such as : and =.
  for ((index = 0; index <= COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    if ((index == 0)) || [[ $line == [[:space:]]* ]]; then
      words+=("$word")
      line=\${line#"\${line%%[![:space:]]*}"}
    else
      words[\${#words[@]} - 1]+=$word
    fi
    line=\${line#"$word"}
  done
  local current=\${words[\${#words[@]} - 1]} breaks=\${COMP_WORDBREAKS//[!:=]/} known=""
  [[ -n $breaks && $current == *["$breaks"]* ]] && known=\${current%"\${current##*["$breaks"]}"}
  COMPREPLY=()
  while IFS=$'\\t' read -r word _; do
    [[ -n $word ]] || continue
    [[ $word == *= ]] && compopt -o nospace
    COMPREPLY+=("\${word#"$known"}")
  done < <("$program" __complete -- "\${words[@]:1}" 2>/dev/null)
}
complete -o nosort -F _pyro pyro
`;

const ZSH = `#compdef pyro
_pyro() {
  local -a values shown
  local line program=\${commands[pyro]:-@PYRO@}
  for line in "\${(@f)$("$program" __complete -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    values+=("\${line%%$'\\t'*}")
    shown+=("\${line/$'\\t'/  -- }")
  done
  (( $#values )) && compadd -l -d shown -a values
}
if [[ $funcstack[1] == _pyro ]]; then
  _pyro "$@"
else
  compdef _pyro pyro
fi
`;

const FISH = `# fish completion for pyro
function __pyro_complete
    set -l program (command -s pyro; or echo @PYRO@)
    set -l words (commandline -opc) (commandline -ct)
    $program[1] __complete -- $words[2..-1] 2>/dev/null
end
complete -c pyro -e
complete -c pyro -f -a '(__pyro_complete)'
`;

const SCRIPTS: { readonly [S in Shell]: string } = { bash: BASH, zsh: ZSH, fish: FISH };

export async function printCompletion(shell: Shell, context: Context): Promise<number> {
  // Where pyro is only an alias the shells' functions cannot call it by name.
  const quoted = `'${installation().command.replaceAll("'", shell === "fish" ? "\\'" : "'\\''")}'`;
  const script = SCRIPTS[shell].replaceAll("@PYRO@", () => quoted);
  if (context.json) await writeJson({ shell, script });
  else await writeAll(STDOUT, script);
  return 0;
}
