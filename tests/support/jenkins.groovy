// Runs Jenkinsfiles with what a pipeline is made of, and says which shell commands they run, with their variables.
// Arguments: the folder of the shared library's vars, then Jenkinsfiles. Output: a line each, fields in Base64.

class Steps {
    def vars, shell, binding
    Map variables = [:]
    List said = []

    def methodMissing(String name, arguments) {
        def body = arguments ? arguments[-1] : null
        if (body instanceof Closure) {
            body.delegate = this
            body.resolveStrategy = Closure.DELEGATE_FIRST
            return body()
        }
        def step = new File(vars, "${name}.groovy")
        if (step.exists()) {
            def script = shell.parse(step)
            script.metaClass.sh = { command -> sh(command.toString()) }
            script.metaClass.error = { why -> throw new RuntimeException(why.toString()) }
            return script.invokeMethod('call', arguments)
        }
        throw new MissingMethodException(name, Steps, arguments)
    }

    def agent(_) { }
    def credentials(String id) { "credential:${id}".toString() }
    def sh(String command) { said << ['sh', command] }
    def getAny() { 'any' }
    def get_() { null }
    void setProperty(String name, value) {
        if (Character.isUpperCase(name.charAt(0))) { variables[name] = value } else { metaClass.setProperty(this, name, value) }
    }
}

@interface Library { String value() }

def vars = new File(args[0])
args.drop(1).each { path ->
    def shell = new GroovyShell(getClass().classLoader, new Binding())
    def steps = new Steps(vars: vars, shell: shell)
    def script = shell.parse(new File(path))
    script.metaClass.pipeline = { Closure body -> steps.methodMissing('pipeline', [body] as Object[]) }
    script.run()
    steps.said.each { fields ->
        def all = [path, *fields, *steps.variables.collect { name, value -> "${name}=${value}" }]
        println all.collect { it.toString().bytes.encodeBase64().toString() }.join(' ')
    }
}
