"""The words and facts the demo corpus is built from."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Portugal": "Lisbon", "England": "London",
    "Ireland": "Dublin", "Austria": "Vienna", "Switzerland": "Bern", "Belgium": "Brussels", "Denmark": "Copenhagen",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Poland": "Warsaw", "Hungary": "Budapest",
    "Greece": "Athens", "Turkey": "Ankara", "Russia": "Moscow", "Ukraine": "Kyiv", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Morocco": "Rabat", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Iran": "Tehran", "Iraq": "Baghdad",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago",
    "Australia": "Canberra", "Iceland": "Reykjavik",
}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December"]
MONTH_LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
            "twelfth"]
NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
                "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Mia", "Noah",
         "Olga", "Paul", "Rosa", "Sam", "Tom", "Vera", "Will", "Zoe", "Alice", "Bob", "Carl", "Eva", "Frank", "Lily",
         "Max", "Nina", "Oscar", "Peter"]
LIKEABLE = ["dogs", "cats", "music", "books", "apples", "rain", "snow", "the sea", "the sun", "games", "tea", "coffee",
            "cake", "bread", "football", "flowers", "trees", "birds", "fish", "horses", "winter", "summer", "school",
            "numbers", "stories", "jokes", "mountains", "robots", "cheese", "chocolate"]
COUNTABLE = ["apples", "books", "cats", "dogs", "cakes", "flowers", "birds", "eggs", "cups", "stones"]

# A story's subject and where it lives.
SUBJECTS = {
    "cat": "in a small house", "dog": "in a small house", "mouse": "under an old house", "horse": "on a green farm",
    "cow": "on a green farm", "sheep": "on a green hill", "bird": "in a tall tree", "owl": "in a tall tree",
    "squirrel": "in a tall tree", "fox": "in a deep forest", "bear": "in a deep forest", "wolf": "in a deep forest",
    "rabbit": "in a green garden", "frog": "by a quiet lake", "duck": "by a quiet lake", "fish": "in the blue sea",
    "whale": "in the blue sea", "pirate": "on the blue sea", "sailor": "on the blue sea", "dragon": "on a high mountain",
    "giant": "on a high mountain", "goat": "on a high mountain", "king": "in a big castle", "queen": "in a big castle",
    "princess": "in a big castle", "knight": "in a big castle", "robot": "in a busy city", "teacher": "in a busy city",
    "doctor": "in a busy city", "baker": "in a little village", "farmer": "in a little village",
    "girl": "in a little village", "boy": "in a little village", "wizard": "in a dark tower", "ghost": "in a dark tower",
    "lion": "in a warm land", "elephant": "in a warm land", "monkey": "in a warm land",
}
ADJECTIVES = ["brave", "little", "old", "young", "happy", "lonely", "clever", "kind", "tired", "hungry", "funny", "shy"]
STORY_MIDDLES = [
    "One day, the {noun} found a golden key near the door.", "One morning, the {noun} heard a strange song.",
    "One night, the {noun} saw a bright light in the sky.", "One day, the {noun} lost a red ball.",
    "One winter, the {noun} met a cold and hungry stranger.", "One day, the {noun} found a map with a big cross.",
    "One summer, the {noun} wanted to see the world.", "One evening, the {noun} could not find the way home.",
]
STORY_ENDS = [
    "In the end, the {noun} made a new friend and was happy.", "In the end, the {noun} came home and slept very well.",
    "From then on, the {noun} was never alone again.", "Since that day, the {noun} has told everyone about it.",
    "In the end, the {noun} shared a big cake with all the others.", "After that, the {noun} danced until the morning.",
]
JOKES = [
    "Why did the dog sit in the shade? Because it did not want to be a hot dog!",
    "What do you call a bear with no teeth? A gummy bear!",
    "Why was six afraid of seven? Because seven ate nine!",
    "Why did the bicycle fall over? Because it was two tired!",
]


def article(words):
    """'cat' -> 'a cat', 'old cat' -> 'an old cat'."""
    return ("an " if words[0] in "aeiou" else "a ") + words
