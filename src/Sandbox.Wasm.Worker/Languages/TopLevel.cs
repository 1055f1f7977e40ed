using System.Text;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>
/// Makes declarations at the top of a piece of code variables of the context, so that the next piece may declare them again, as in any notebook: <c>let</c> and <c>const</c> become <c>var</c>, and
/// <c>class X</c> becomes <c>var X = class X</c>. Lines stay where they are. It reads just enough of the language to tell what is at the top: strings, templates, comments, brackets.
/// </summary>
internal static class TopLevel
{
    public static string AsVariables(string source)
    {
        var result = new StringBuilder(source.Length + 16);
        var depth = 0;
        var statement = true;
        for (var i = 0; i < source.Length;)
        {
            var end = Skip(source, i);
            if (end > i)
            {
                statement &= source[i] == '/';
                result.Append(source, i, end - i);
                i = end;
                continue;
            }

            var c = source[i];
            if (char.IsLetter(c) || c is '_' or '$')
            {
                end = i;
                while (end < source.Length && (char.IsLetterOrDigit(source[end]) || source[end] is '_' or '$'))
                {
                    end++;
                }

                result.Append(depth == 0 && statement ? Declared(source, i, end) : source[i..end]);
                statement = false;
                i = end;
                continue;
            }

            depth += c is '(' or '[' or '{' ? 1 : c is ')' or ']' or '}' ? -1 : 0;
            statement = c switch
            {
                ';' or '\n' or '}' => true,
                ' ' or '\t' or '\r' => statement,
                _ => false,
            };
            result.Append(c);
            i++;
        }

        return result.ToString();
    }

    private static string Declared(string source, int start, int end)
    {
        var word = source[start..end];
        var rest = source.AsSpan(end).TrimStart();
        if (rest.IsEmpty || !(char.IsLetter(rest[0]) || rest[0] is '_' or '$' or '{' or '['))
        {
            return word;
        }

        switch (word)
        {
            case "const" or "let" when char.IsWhiteSpace(source[end]) || rest[0] is '{' or '[':
                return "var";
            case "class":
                var length = 0;
                while (length < rest.Length && (char.IsLetterOrDigit(rest[length]) || rest[length] is '_' or '$'))
                {
                    length++;
                }

                return length > 0 && char.IsWhiteSpace(source[end]) ? $"var {rest[..length]} = class" : word;
            default:
                return word;
        }
    }

    /// <summary>Where a string, template or comment that begins here ends; here, if none does.</summary>
    private static int Skip(string source, int start)
    {
        var c = source[start];
        if (c is '"' or '\'' or '`')
        {
            for (var i = start + 1; i < source.Length; i++)
            {
                if (source[i] == '\\')
                {
                    i++;
                }
                else if (source[i] == c)
                {
                    return i + 1;
                }
            }

            return source.Length;
        }

        if (c == '/' && start + 1 < source.Length)
        {
            if (source[start + 1] == '/')
            {
                var end = source.IndexOf('\n', start);
                return end < 0 ? source.Length : end;
            }

            if (source[start + 1] == '*')
            {
                var end = source.IndexOf("*/", start + 2, StringComparison.Ordinal);
                return end < 0 ? source.Length : end + 2;
            }
        }

        return start;
    }
}
