/**
 * Runs a shell command as a deployment:
 *
 *     deploytrail(service: 'checkout', environment: 'production', command: './deploy.sh')
 *
 * Every other entry is an option of `deploytrail run`, in camel case (changeTicket is --change-ticket); `tags` is a
 * map. The step ends as the command does, whatever becomes of its events.
 */
def call(Map facts) {
    if (!facts.command) {
        error("deploytrail: which command? Give command: './deploy.sh'")
    }
    List words = ['deploytrail', 'run']
    facts.each { name, value ->
        if (name == 'tags') {
            value.each { tag, text -> words += ['--tag', quoted("${tag}=${text}")] }
        } else if (name != 'command') {
            words += [option(name), quoted(value)]
        }
    }
    sh((words + ['--', 'sh', '-c', quoted(facts.command)]).join(' '))
}

private String option(name) {
    return '--' + name.replaceAll(/([A-Z])/, '-$1').toLowerCase()
}

private String quoted(text) {
    return "'" + text.toString().replace("'", "'\\''") + "'"
}
